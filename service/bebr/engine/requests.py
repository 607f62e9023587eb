"""What callers of the engine hand in and get back. Plain data; JSON only where a fast path needs it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring as quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.scoring import Scorer
from bebr.core.types import FieldType, Hit


@dataclass(frozen=True, slots=True)
class FitSettings:
    """A binarizer of the collection's own: bytes of a code, embeddings to gather first; dims where no bundle says."""

    bytes: int
    sample: int | None = None
    dims: int | None = None


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """How a collection is made. bundle: encodes texts and vectors; or code: a CodeSpec for codes of your own.

    fit: codes come from a binarizer fitted to the first embeddings, which the bundle's model or the user makes.
    text_field: the metadata field that holds the text of a point, so that it can be encoded anew; the text that a
    point is written with is put there, where its metadata does not have the field.
    """

    bundle: str | None = None
    code: str | None = None
    fit: FitSettings | None = None
    shards: int = 2
    filterable: Mapping[str, FieldType] = field(default_factory=dict)
    text_field: str | None = None


@dataclass(frozen=True, slots=True)
class UpgradeQuery:
    """A query to measure an upgrade with. Either its text, or its vectors by id of the version whose model made them.

    relevant: ids of the points that were judged relevant, with their grades; None: no judgement.
    """

    text: str | None = None
    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    relevant: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one point of a batch was not applied. error: the name of a class in bebr.errors."""

    index: int
    id: Any
    error: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"index": self.index, "id": self.id, "error": self.error, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What a batch of points did. seq: the shard's seq after it, for each shard that was written."""

    applied: int
    rejected: int
    items: list[ItemError]
    seq: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        items = [item.to_json() for item in self.items]
        return {"applied": self.applied, "rejected": self.rejected, "items": items, "seq": self.seq}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. Exactly one of text, vector (dims,) float32, code (packed levels, with or without gain), id.

    scorer None: adc for text and vector, sdc for code and id. filter: JSON, parsed against the collection's fields.
    with_metadata: all of it, none, or the named keys.
    """

    text: str | None = None
    vector: NDArray[np.float32] | None = None
    code: bytes | None = None
    id: str | None = None
    limit: int = 10
    offset: int = 0
    scorer: Scorer | None = None
    filter: Any = None
    score_threshold: float | None = None
    with_metadata: bool | list[str] = True
    with_code: bool = False
    version: str | None = None
    group_by: str | None = None
    group_size: int = 1
    cursor: str | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first. searched: points covered, per code version."""

    hits: list[Hit]
    query_version: str
    searched: dict[str, int]
    took_ms: float
    cursor: str | None = None
    explain: dict[str, Any] | None = None

    def to_json_bytes(self) -> bytes:
        """The answer of the search route. Metadata is JSON text already and is spliced in, not parsed."""
        hits = ",".join([_hit_json(hit) for hit in self.hits])
        tail = f',"explain":{json.dumps(self.explain)}' if self.explain is not None else ""
        return (
            f'{{"hits":[{hits}],"query_version":{json.dumps(self.query_version)},"searched":{json.dumps(self.searched)},'
            f'"took_ms":{self.took_ms:.3f},"cursor":{json.dumps(self.cursor)}{tail}}}'
        ).encode()


def _hit_json(hit: Hit) -> str:
    parts = [f'"id":{quote(hit.id)},"score":{hit.score:.7g},"version":"{hit.version}"']
    if hit.distance is not None:
        parts.append(f'"distance":{hit.distance}')
    if hit.metadata is not None:
        parts.append(f'"metadata":{hit.metadata}')
    if hit.code is not None:
        parts.append(f'"code_b64":"{base64.b64encode(hit.code).decode()}"')
    return "{" + ",".join(parts) + "}"
