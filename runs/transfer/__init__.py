"""Runs as files: out of one Runfolio and into another (issue 5, point 9). No HTTP in here."""
