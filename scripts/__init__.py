"""Castalia: one reproducible workflow for a Pythia-style language-model scaling suite."""
