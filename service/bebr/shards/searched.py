"""Searched: what one search of the shards found, and what it covered."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from bebr.core.scoring import DotQueries
from bebr.index import Found, ListsRead, Rescored


class Searched(NamedTuple):
    """A tuple, since every search makes one."""

    found: list[Found]
    """The hits of each query, of all shards and code versions."""
    points: dict[int, int]
    """Living points by code version, in the views that were scanned. A version that has points here and had no queries
    was not searched."""
    rescored: Rescored | None = None
    """What it took to score candidates again; None: hits have the scores of the scan."""
    lists: Mapping[int, ListsRead] = MappingProxyType({})
    """What was read of the lists of each code version; all rows of the others were scored."""
    queries: DotQueries | None = None
    """What was scanned for, where embeddings were to be searched and this was asked for."""
