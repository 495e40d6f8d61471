"""Measurements against a baseline of the same run: `make bench` (issue 3, point 9)."""
