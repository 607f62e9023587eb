"""Reading points as they come from outside: each is checked alone, so that a bad one never fails its batch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.codes import CodeSpec
from bebr.core.types import INT64_MAX, MAX_ID_BYTES, FieldType, check_fields, check_id
from bebr.encoding.embedding.vectors import split_embeddings
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.inputs import (
    check_text,
    check_vector,
    read_base64,
    read_code,
    read_vector,
    read_vector_b64,
    vector_dims,
)
from bebr.engine.results import ItemError
from bebr.errors import (
    BebrError,
    DimensionMismatch,
    DuplicateId,
    Incompatible,
    InvalidCode,
    InvalidMetadata,
    InvalidOption,
)

SOURCES = ("text", "vector", "vector_b64", "code_b64")
MAX_METADATA_DEPTH = 190
"""Less than JSON may nest, so that metadata that was stored can be shown inside an answer."""
KEYS = frozenset({"id", "metadata", *SOURCES})
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Source(StrEnum):
    """What a point's code is made from."""

    TEXT = "text"
    VECTOR = "vector"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Rules:
    """What points of a code version must look like."""

    spec: CodeSpec
    """How its codes are laid out."""
    steps: NDArray[np.float32]
    """(blocks,): the step of each block."""
    fields: Mapping[str, FieldType]
    """The fields that metadata must fit, with their types."""
    takes_text: bool
    """Whether there is an embedding model."""
    takes_codes: bool
    """False while points are buffered for a fit."""
    dims: int | None
    """Dims of its vectors; None: it takes none."""
    max_text_chars: int
    max_metadata_bytes: int
    text_field: str | None = None
    """The metadata field that keeps the text of a point, unless its metadata has the field already."""
    made_for: str | None = None
    """Another version that vectors and codes were made for; they are refused then."""


def rules_for(collection: Collection, version: Version, limits: Limits) -> Rules:
    """What points of a collection must look like to be written as a code version."""
    return Rules(
        spec=version.spec,
        steps=version.steps,
        fields=collection.document.checked_fields,
        takes_text=collection.encoders.takes_text(version),
        takes_codes=version.kind is not VersionKind.BUFFERED,
        dims=collection.encoders.dims(version),
        max_text_chars=limits.max_text_chars,
        max_metadata_bytes=limits.max_metadata_bytes,
        text_field=collection.document.text_field,
    )


@dataclass(slots=True)
class Draft:
    """A checked point on its way to the store."""

    index: int
    """Its position in the request."""
    id: str
    source: Source
    """What its code is made from."""
    payload: Any
    """The text, the vector (dims,) float32, or the record (record_size_bytes,) uint8."""
    metadata: dict[str, Any]
    metadata_text: str
    """The metadata as JSON."""


def read_points(points: Sequence[object], rules: Rules) -> tuple[list[Draft], list[ItemError]]:
    """Raw JSON values -> checked drafts of distinct ids, and an error for each of the others."""
    drafts: list[Draft] = []
    errors: list[ItemError] = []
    seen: set[str] = set()
    for index, point in enumerate(points):
        try:
            draft = _read_point(index, point, rules)
            if draft.id in seen:
                raise _duplicate(draft.id)
            seen.add(draft.id)
            drafts.append(draft)
        except BebrError as error:
            errors.append(item_error(index, point.get("id") if isinstance(point, dict) else None, error))
    return drafts, errors


def read_vectors(
    ids: Sequence[object], vectors: NDArray[np.float32], metadata: Sequence[object] | None, rules: Rules
) -> tuple[list[Draft], NDArray[np.float32], list[ItemError]]:
    """Rows of vectors (n, dims) float32 with ids and metadata -> drafts, their unit vectors, errors of the others.

    Raises DimensionMismatch when dims or counts differ: then no row can be right.
    """
    if len(ids) != len(vectors) or (metadata is not None and len(metadata) != len(ids)):
        raise DimensionMismatch(
            f"expected as many ids and metadata as vectors, got {len(ids)} ids, {len(vectors)} vectors"
            + (f", {len(metadata)} metadata" if metadata is not None else ""),
            expected=len(vectors),
            got=len(ids),
        )
    unit, faults = split_embeddings(vectors, vector_dims(rules.dims))
    drafts, errors = read_rows(ids, metadata, faults, Source.VECTOR, rules)
    return drafts, unit[[draft.index for draft in drafts]], errors


def read_rows(
    ids: Sequence[object],
    metadata: Sequence[object] | None,
    faults: Mapping[int, BebrError],
    source: Source,
    rules: Rules,
) -> tuple[list[Draft], list[ItemError]]:
    """Rows whose payload stands in one array -> drafts, and errors of the others. faults: what is wrong with rows."""
    drafts: list[Draft] = []
    errors: list[ItemError] = []
    seen: set[str] = set()
    for index, raw in enumerate(ids):
        try:
            point_id = check_id(raw)
            if point_id in seen:
                raise _duplicate(point_id)
            if index in faults:
                raise faults[index]
            values, text = read_metadata(None if metadata is None else metadata[index], rules)
        except BebrError as error:
            errors.append(item_error(index, raw, error))
            continue
        seen.add(point_id)
        drafts.append(Draft(index, point_id, source, None, values, text))
    return drafts, errors


def _duplicate(point_id: str) -> DuplicateId:
    return DuplicateId(f"duplicate id {point_id!r} in this batch; the first was kept", id=point_id)


def item_error(index: int, point_id: Any, error: BebrError) -> ItemError:
    return ItemError(index, _shown_id(point_id), type(error).__name__, error.detail)


def _shown_id(point_id: Any) -> Any:
    """An id as it was sent; cut where it is long, None where JSON could not say it again or it is no plain value."""
    if isinstance(point_id, str):
        return point_id if len(point_id) <= MAX_ID_BYTES else f"{point_id[:MAX_ID_BYTES]}..."
    is_plain = isinstance(point_id, int | float) and abs(point_id) <= INT64_MAX
    return point_id if is_plain else None


def read_metadata(metadata: object, rules: Rules) -> tuple[dict[str, Any], str]:
    """-> the object and its JSON text. Raises InvalidMetadata."""
    if metadata is None:
        return {}, "{}"
    if not isinstance(metadata, dict):
        raise InvalidMetadata(f"'metadata' must be an object, got {type(metadata).__name__}", key="metadata")
    check_fields(metadata, rules.fields)
    try:
        text = _to_json(metadata)
        size = _size(text)
    except (ValueError, RecursionError) as error:
        raise InvalidMetadata(f"'metadata' cannot be stored as JSON: {error}", key="metadata") from error
    if text.count("{") + text.count("[") > MAX_METADATA_DEPTH and _depth(metadata) > MAX_METADATA_DEPTH:
        raise InvalidMetadata(f"'metadata' nests at most {MAX_METADATA_DEPTH} levels deep", key="metadata")
    kept = metadata.get(rules.text_field) if rules.text_field is not None else None
    if size > rules.max_metadata_bytes and isinstance(kept, str) and len(kept) <= rules.max_text_chars:
        size -= _size(_to_json(kept))  # a text has its own limit
    if size > rules.max_metadata_bytes:
        raise InvalidMetadata(
            f"'metadata' may have {rules.max_metadata_bytes} bytes as JSON, got {size}", key="metadata"
        )
    return metadata, text


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _depth(value: object) -> int:
    """How deep arrays and objects nest; level by level, because recursion has limits of its own."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _read_point(index: int, point: object, rules: Rules) -> Draft:
    if not isinstance(point, dict):
        raise InvalidOption(f"a point is an object, got {type(point).__name__}", key=None)
    if unknown := point.keys() - KEYS:
        raise InvalidOption(
            f"unknown field {min(map(str, unknown))!r:.100}; a point has {sorted(KEYS)}", key=min(unknown)
        )
    if "id" not in point:
        raise InvalidOption("a point needs an 'id'", key="id")
    point_id = check_id(point["id"])
    given = [key for key in SOURCES if point.get(key) is not None]
    if len(given) != 1:
        raise InvalidOption(f"a point has exactly one of {', '.join(SOURCES)}, got {given or 'none'}", key="text")
    source, payload = _read_source(given[0], point[given[0]], rules)
    metadata = point.get("metadata")
    if source is Source.TEXT and rules.text_field is not None and (metadata is None or isinstance(metadata, dict)):
        metadata = {rules.text_field: payload} | (metadata or {})
    metadata, text = read_metadata(metadata, rules)
    return Draft(index, point_id, source, payload, metadata, text)


def _read_source(key: str, value: object, rules: Rules) -> tuple[Source, Any]:
    if key == "text":
        return Source.TEXT, check_text(value, rules.takes_text, rules.max_text_chars)
    if rules.made_for is not None:
        raise Incompatible(
            f"'{key}' was made for version '{rules.made_for}', and another has become active; make it anew, or send a "
            "text",
            key=key,
        )
    if key == "code_b64":
        if not rules.takes_codes:
            raise InvalidOption(
                "points of this collection are kept as embeddings until its fit: send 'text' or a vector", key=key
            )
        return Source.CODE, read_code(read_base64(value, key, InvalidCode), rules.spec, rules.steps)
    vector = read_vector(value) if key == "vector" else read_vector_b64(value)
    return Source.VECTOR, check_vector(vector, rules.dims)[0]
