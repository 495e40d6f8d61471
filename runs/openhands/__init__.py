"""OpenHands' conversations as sessions, runs and events (issue 6, point 4; CONTRACTS.md 3.2-3.4)."""
