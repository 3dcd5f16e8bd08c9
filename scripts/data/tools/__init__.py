"""Instruments on finished data: look at rows, find texts, cut, join and export token files."""
