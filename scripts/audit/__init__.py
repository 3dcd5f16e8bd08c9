"""Audit: prove that a suite is what it says."""
