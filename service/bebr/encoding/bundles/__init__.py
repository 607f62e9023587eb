"""Bundles on disk: manifest, files, and which there are."""
