"""Ways in: a module per protocol (DESIGN.md 5)."""
