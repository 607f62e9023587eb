"""The values that a search passes from step to step. All are frozen: a step returns new ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.filters import Filter
from bebr.core.scoring import Scorer
from bebr.engine.collections.version import Version
from bebr.engine.requests import SearchRequest
from bebr.shards import Found, ListsHeld, Rescoring

ONE = np.float32(1)


@dataclass(frozen=True, slots=True)
class Query:
    """A checked search. It has an `embedding` or a `record` once texts are embedded and ids are read."""

    request: SearchRequest
    """The request as it came."""
    scorer: Scorer
    """How it is compared with codes."""
    condition: Filter | None
    """Which points may be hits; None: all."""
    offset: int
    """Hits to skip."""
    wanted: int
    """Hits to find, those to skip included."""
    version: Version
    """The code version that the query is of: its model made the embedding, or its binarizer the code."""
    embedding: Floats | None = None
    """(1, embedding dims), length one: the vector, or the embedded text. None: the query is a code."""
    record: NDArray[np.uint8] | None = None
    """(1, record_size_bytes): the code, or that of the point with the id. None: the query is an embedding."""
    duals: Mapping[str, Floats] = field(default_factory=dict)
    """The text embedded by other models, (1, their dims) each, by the fingerprint of the model."""


@dataclass(frozen=True, slots=True)
class VersionQuery:
    """What a query asks of the codes of one version."""

    embedding: Floats | None = None
    """(1, embedding dims of the version's model): what is requested. None: it is `record`."""
    unit: Floats | None = None
    """The same at length one, as a projection takes it."""
    factor: np.float32 = ONE
    """What the projection of `unit` is multiplied by."""
    offset: float = 0.0
    """What is added to every score."""
    record: NDArray[np.uint8] | None = None
    """(1, record_size_bytes): the query's own code, where the query is a code of this very version."""


@dataclass(frozen=True, slots=True)
class Probing:
    """How a search reads lists."""

    recall: float
    """Share of the exact hits that it finds, on average."""
    stop_at: int
    """Lists are read while they may hold better hits than the one of this rank."""
    share: float = 1.0
    """What that costs, of what it costs to compare all codes, about."""


@dataclass(frozen=True, slots=True)
class RoutedQuery:
    """A query and what it asks of every version that has points."""

    query: Query
    of_version: Mapping[int, VersionQuery]
    """By number of the version."""
    route: Mapping[str, str]
    """Adapters that lead to codes of other models, by id of their versions."""
    rescoring: Rescoring | None = None
    """How candidates are scored again by rescore codes; None: hits have the scores of the scan."""

    probing: Probing | None = None
    """How lists are read; None: all codes are compared."""

    @property
    def rescored(self) -> int:
        """How many candidates are scored again."""
        return 0 if self.rescoring is None else self.rescoring.limit - self.rescoring.first

    @property
    def candidates(self) -> int:
        """How many the scan must find."""
        candidates = self.query.wanted if self.rescoring is None else self.rescoring.limit
        return candidates if self.probing is None else max(candidates, self.probing.stop_at)


@dataclass(frozen=True, slots=True)
class RescoredRows:
    """How candidates were scored again."""

    candidates: int
    """How many were taken at a time; with groups, how many groups."""
    rows: int
    """Rescore codes that were read."""
    seconds: float
    """What it took for all searches that ran together."""


@dataclass(frozen=True, slots=True)
class ReadLists:
    """What one query read of the lists of one code version."""

    held: ListsHeld
    recall: float
    """Share of the exact hits that was wanted."""
    delta: float
    """Of the rule."""
    lists: int
    """How many were read."""
    rows: int
    """Rows that were scored."""
    is_whole: bool
    """All rows that match were scored."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found."""

    query: Query
    found: Found
    """Its hits, best first."""
    covered: Mapping[int, int]
    """Points that the scan covered, by number of their version."""
    rescored: RescoredRows | None = None
    """None: hits have the scores of the scan."""
    lists: Mapping[int, ReadLists] = field(default_factory=dict)
    """What was read of the lists of versions, by number; only for searches that are explained."""
