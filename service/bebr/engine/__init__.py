"""Use cases over encoding, index and metadata store: what the service does, free of HTTP."""

from bebr.engine.engine import Engine
from bebr.engine.parts import EngineOptions, Parts
from bebr.engine.requests import (
    AliasChange,
    CollectionSettings,
    EvaluationRequest,
    FitSettings,
    SearchRequest,
    UpgradeQuery,
)
from bebr.engine.results import ItemError, SearchResult, WriteReport
from bebr.engine.versions.gate import Gate

__all__ = [
    "AliasChange",
    "CollectionSettings",
    "Engine",
    "EngineOptions",
    "EvaluationRequest",
    "FitSettings",
    "Gate",
    "ItemError",
    "Parts",
    "SearchRequest",
    "SearchResult",
    "UpgradeQuery",
    "WriteReport",
]
