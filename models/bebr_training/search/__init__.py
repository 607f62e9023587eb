"""Exhaustive search in numpy, and what a ranking is worth. Imports no other room."""
