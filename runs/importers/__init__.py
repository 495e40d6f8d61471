"""History that exists already: a module for each system that it comes from (issue 6, point 7)."""
