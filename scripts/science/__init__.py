"""Analyses of a finished suite: results of stages to tables of statistics."""
