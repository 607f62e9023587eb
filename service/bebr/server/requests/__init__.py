"""The shapes of requests, by noun: bodies are validated with these models and documented by them.

A field that is not here is refused. Ids, filters and points stay raw JSON, because the engine checks them one by one;
`filters` and `points.Point` only describe them.
"""

from bebr.server.requests import base, collections, embeddings, filters, points, search, transfer, versions

__all__ = ["base", "collections", "embeddings", "filters", "points", "search", "transfer", "versions"]
