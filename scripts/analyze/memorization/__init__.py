"""The analyses of memorization."""
