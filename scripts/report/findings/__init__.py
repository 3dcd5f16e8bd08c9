"""Findings: sentences with the numbers they rest on."""
