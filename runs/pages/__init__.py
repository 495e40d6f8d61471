"""The pages: a module per page, with its form, its view and its query (DESIGN.md 7)."""
