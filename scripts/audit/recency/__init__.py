"""What each checkpoint knows of the rows that each of them just saw."""
