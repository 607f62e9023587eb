"""Measures codes and baselines side by side on a collection."""
