"""The batch viewer."""
