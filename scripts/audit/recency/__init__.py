"""What each checkpoint knows of the sequences that each of them just saw."""
