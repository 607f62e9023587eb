"""Texts and vectors to embeddings."""
