"""What callers of the engine hand in. Plain data; what comes back is in `results`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.lists import DEFAULT_RECALL
from bebr.core.scoring import Scorer
from bebr.core.types import FieldType
from bebr.encoding import AdapterKind
from bebr.engine.projection import Wanted


@dataclass(frozen=True, slots=True)
class FitSettings:
    """A binarizer to be fitted to the first embeddings of a collection."""

    bytes: int | None = None
    """Bytes per code; None: those of the bundle's codes, or what suits the dims."""
    sample: int | None = None
    """Embeddings to fit to; None: the default."""
    dims: int | None = None
    """Dims of the embeddings, where there is no bundle to say."""
    rescore_bytes: int | None = None
    """Bytes per rescore code; 0 for none; None: none, or with the collection's own `dims` what suits them."""
    cpu_seconds: float | None = None
    """CPU seconds that the fit may take, about; None: what suits the dims."""


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """How a collection is made."""

    bundle: str | None = None
    """Id of the bundle that encodes texts and vectors."""
    code: str | None = None
    """A CodeSpec, for codes of the user's own without a bundle; or, with dims, 'int8'."""
    dims: int | None = None
    """Dims of embeddings that the user brings."""
    fit: FitSettings | bool | None = None
    """Codes come from a binarizer fitted to the first embeddings, which the bundle's model or the user makes. None: as
    True with dims, else as False."""
    shards: int = 2
    filterable: Mapping[str, FieldType] = field(default_factory=dict)
    """Metadata fields that filters may use."""
    auto_filterable: bool = False
    """New keys of metadata become filterable by themselves."""
    text_field: str | None = None
    """Metadata field that keeps the text of a point, so that another model can encode it later.

    The text that a point is written with is put there, unless its metadata has the field.
    """
    recall: float | None = DEFAULT_RECALL
    """Share of the exact hits that searches by lists find; None: all searches are exact."""


@dataclass(frozen=True, slots=True)
class AliasChange:
    """Which collection an alias names from now on."""

    alias: str
    collection: str | None
    """None: the alias is deleted."""


@dataclass(frozen=True, slots=True)
class UpgradeQuery:
    """A query to evaluate a version with: its text, or its vectors."""

    text: str | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """By id of the version whose model made each: (dims,) float32."""
    relevant: Mapping[str, float] | None = None
    """Grades by id of the points that answer the query; None: nobody judged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """How to evaluate a version."""

    queries: Sequence[UpgradeQuery] | None = None
    """The user's own; None: `sample` points serve as queries."""
    sample: int
    """How many points serve as queries."""
    points: int
    """How many points to search."""
    adapter: AdapterKind | None = None
    """The kind of adapter to report on; None: the best one."""
    seed: int = 0
    """Of the random choice of points."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search: exactly one of text, vector, code and id, and how to search by it."""

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    """(dims,) float32."""
    code: bytes | None = None
    """Packed levels, with or without the gain."""
    id: str | None = None
    """Id of the point to search by."""
    limit: int = 10
    offset: int = 0
    scorer: Scorer | None = None
    """None: adc for text and vector, sdc for code and id."""
    filter: Any = None
    """JSON, parsed against the collection's fields."""
    score_threshold: float | None = None
    with_metadata: Wanted = True
    with_code: bool = False
    version: str | None = None
    """Id of the code version that the query is of; None: the active one."""
    group_by: str | None = None
    group_size: int = 1
    cursor: str | None = None
    rescore: bool | None = None
    """Whether candidates are scored again by rescore codes; None: where there are some."""
    candidates: int | None = None
    """How many candidates of the scan are scored again, of groups with `group_by`; None: as many as pay."""
    exact: bool = False
    """Whether all codes are compared."""
    recall: float | None = None
    """Share of the exact hits that a search by lists finds; None: that of the collection."""
    min_seq: Mapping[int, int] | None = None
    """The operations that it must see, by shard, as writes said them."""
    strong: bool = False
    """Whether it must see all that the store has."""
    explain: bool = False
