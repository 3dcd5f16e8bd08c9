"""What is done, running, failed and missing."""
