"""Exhaustive search in numpy, and metrics of rankings."""
