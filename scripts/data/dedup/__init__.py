"""Near-duplicates and the held-out split."""
