"""Binarizers: fitted, exported, run."""
