"""What callers of the engine get back. Plain data: how it is written as JSON is the business of `bebr.server`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr.core.types import Hit


class Point(NamedTuple):
    """A point that was read. A tuple, since one scroll makes thousands."""

    id: str
    version: str
    """Id of the code version that its code is of."""
    metadata: str | None = None
    """A JSON object as text; None where it was not requested."""
    code: bytes | None = None
    """Its record; None where it was not requested."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a scroll."""

    points: list[Point]
    cursor: str | None
    """Where the next page begins; None: this was the last."""


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one point of a batch was not applied."""

    index: int
    """Position of the point in the batch, from 0."""
    id: Any
    """Its id as it was sent, also where that is no valid id."""
    error: str
    """Name of the class in bebr.errors."""
    detail: str


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What a batch of points did."""

    applied: int
    rejected: int
    items: list[ItemError]
    """The rejected points, by index."""
    seq: dict[int, int]
    """By shard that was written: its seq afterwards."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a delete or a change of metadata did."""

    points: int
    """How many points it changed, or would change."""
    seq: dict[int, int]
    """By shard that was written: its seq afterwards."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search was computed."""

    scorer: str
    code: str
    """CodeSpec of the query's version."""
    route: dict[str, str]
    """By id of a version of another model: the adapters that led to its codes."""
    stages_ms: dict[str, float]
    shards: int
    parts: int
    """Parts of all shards, which are scanned one by one."""
    scanned_bytes: int
    rescore: "RescoreExplanation | None" = None
    """How candidates were scored again; None: scores are those of the scan."""
    lists: "Mapping[str, ListsExplanation]" = field(default_factory=dict)
    """By id of a code version whose lists were read: how."""
    exact: str | None = None
    """Why all codes were compared; None: those of some version were not."""


@dataclass(frozen=True, slots=True)
class RescoreExplanation:
    """Scores are those of the finer, rescore codes, where a point has one."""

    candidates: int
    """How many candidates of the scan were ordered by them at a time; with groups, how many groups."""
    rows_read: int
    """Rescore codes that were read."""
    ms: float
    """Milliseconds that it took, for all searches that ran together."""


@dataclass(frozen=True, slots=True)
class ListsExplanation:
    """Which lists of a code version were read."""

    generations: tuple[int, ...]
    """Of the centroids."""
    recall: float
    """Share of the exact hits that was wanted."""
    delta: float
    """Lists were read while their centroid scored at least the last hit's score less this."""
    lists: int
    """How many there are."""
    lists_read: int
    rows: int
    """Codes in all lists."""
    rows_read: int
    """Codes in the lists that were read."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one search."""

    hits: list[Hit]
    """Best first, ties by id."""
    query_version: str
    """Id of the code version that the query is of."""
    searched: dict[str, int]
    """By id of a code version: how many points the search covered."""
    took_ms: float
    cursor: str | None = None
    """Where the next page begins; None: there is none."""
    explain: Explanation | None = None
    size_bytes: int = 0
    """About what it takes as an answer."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts as embeddings, and as codes where those were requested."""

    bundle: str
    """Id of the bundle whose model made them."""
    embeddings: NDArray[np.float32]
    """(texts, dims) float32."""
    records: NDArray[np.uint8] | None
    """(texts, record_size_bytes) uint8."""
    tokens: int
    """Tokens that the model read in all."""
