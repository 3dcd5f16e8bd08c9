"""Models of the study file, a module a top-level key."""
