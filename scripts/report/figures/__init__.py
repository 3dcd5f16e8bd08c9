"""Figures in Vega-Lite."""
