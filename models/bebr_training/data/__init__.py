"""Data to train and measure on: collections, training rows, relevance judgments, held-out rows."""
