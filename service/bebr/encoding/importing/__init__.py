"""Checkpoints of other projects become embedding models of bundles."""
