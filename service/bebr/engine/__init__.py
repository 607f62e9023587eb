"""Use cases over encoding, index and metadata store: what the service does, free of HTTP."""

from bebr.engine.engine import Engine
from bebr.engine.requests import CollectionSettings, FitSettings, ItemError, SearchRequest, SearchResult, WriteReport

__all__ = ["CollectionSettings", "Engine", "FitSettings", "ItemError", "SearchRequest", "SearchResult", "WriteReport"]
