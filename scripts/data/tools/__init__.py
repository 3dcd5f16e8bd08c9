"""Instruments on finished data: look at sequences, find texts, cut, join and export token files."""
