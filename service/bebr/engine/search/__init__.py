"""Searches from request to hits, and reading points without a query."""
