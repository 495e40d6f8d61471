"""Tests with the real packages as clients, each in an environment of its own: `make test-clients`."""
