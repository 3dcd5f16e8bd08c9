"""From results to tidy tables."""
