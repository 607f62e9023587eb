"""Use cases over encoding, index and metadata store: what the service does, free of HTTP."""

from bebr.engine.engine import Engine
from bebr.engine.requests import AliasChange, CollectionSettings, FitSettings, SearchRequest, UpgradeQuery
from bebr.engine.results import ItemError, SearchResult, WriteReport
from bebr.engine.versions.evaluation import Evaluation
from bebr.engine.versions.promotion import Gate

__all__ = [
    "AliasChange",
    "CollectionSettings",
    "Engine",
    "Evaluation",
    "FitSettings",
    "Gate",
    "ItemError",
    "SearchRequest",
    "SearchResult",
    "UpgradeQuery",
    "WriteReport",
]
