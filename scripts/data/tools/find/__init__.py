"""Where a text stands in a corpus, and which steps saw it."""
