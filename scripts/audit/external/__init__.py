"""Others' suites, from a table of hashes and the files at hand."""
