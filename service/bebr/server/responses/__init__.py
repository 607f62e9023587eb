"""The shapes of answers, by noun: each is made from what the engine returns, written as JSON, and documented."""

from bebr.server.responses import base, collections, embeddings, jobs, operations, points, search, transfer, versions

__all__ = ["base", "collections", "embeddings", "jobs", "operations", "points", "search", "transfer", "versions"]
