"""What a shard can be asked to write: points and deletes as they are, and changes of points that are read first.

A `Patch`, `Reencode` or `Replace` is turned into puts of the points as they are when its turn comes, which the store
takes only while they are so. Pure, but for the encoder that a `Reencode` brings with it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.operations import PutWrite, Write, fits_commit
from bebr.core.types import FieldType, Puts, StoredPoint, WriteMode, column_value, field_value
from bebr.errors import InsufficientStorage, InvalidMetadata

Fields = Mapping[str, FieldType]
Values = Mapping[str, Sequence[Any]]
"""The values of each filterable field, point after point."""


@dataclass(frozen=True, slots=True)
class ShardWrite:
    """Points to store or to delete, as they are."""

    write: Write
    """What the store is told."""
    values: Values
    """For puts: the values of the filterable fields, which the view needs."""
    fields: Fields | None = None
    """The fields that these are the values of; None: those that the shard has when it is written."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Change some keys of the metadata of points. The points that exist get a new seq."""

    ids: list[str]
    changes: Mapping[str, Any]
    """New values by key; None removes the key."""
    max_metadata_bytes: int
    """Where the metadata of one point would be larger, without the text that it keeps, none is changed and
    InvalidMetadata names it."""
    low: InsufficientStorage | None = None
    """Why there is no room. It is raised where the points would take more of it than before."""
    text_field: str | None = None
    """The key of the text that a point keeps, which has a limit of its own."""


@dataclass(frozen=True, slots=True)
class Reencode:
    """Move points from one code version to another. What was written or deleted meanwhile stays as it is."""

    ids: list[str]
    """Those of them that are of version `before` when their turn comes are moved."""
    before: int
    after: int
    encode: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    """Records (points, record_size_bytes) uint8 of the one version -> of the other. Runs in a thread."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Give points other codes; their metadata stays as it is."""

    ids: list[str]
    after: int
    """The code version of the new records."""
    records: NDArray[np.uint8]
    """(ids, record_size_bytes) uint8: the new records."""
    made_from: list[bytes] | None
    """The records that the points must still have, so that what was written or deleted meanwhile stays as it is; None:
    whatever they have."""


Change = ShardWrite | Patch | Reencode | Replace


def affected(change: Patch | Reencode | Replace, found: Sequence[StoredPoint | None]) -> list[StoredPoint]:
    """Those of the points that the change applies to. found: the points of its ids as they are now."""
    points = [point for point in found if point is not None]
    match change:
        case Patch():
            return points
        case Reencode(before=before):
            return [point for point in points if point.version == before]
        case Replace():
            if change.made_from is None:
                return points
            before_of = dict(zip(change.ids, change.made_from, strict=True))
            return [point for point in points if point.record == before_of[point.id]]


def of_ids(change: Patch | Reencode | Replace, ids: list[str]) -> Patch | Reencode | Replace:
    """The same change of some of its points."""
    if not isinstance(change, Replace):
        return replace(change, ids=ids)
    places = [change.ids.index(point_id) for point_id in ids]
    made_from = None if change.made_from is None else [change.made_from[place] for place in places]
    return replace(change, ids=ids, records=change.records[places], made_from=made_from)


def rewritten(change: Patch | Reencode | Replace, points: Sequence[StoredPoint], fields: Fields) -> list[ShardWrite]:
    """What to write for the points, at least one, that a change applies to.

    Raises InvalidMetadata where a patch makes the metadata of one too large, and whatever the encoder raises.
    """
    match change:
        case Patch():
            return _patched(change, points, fields)
        case Reencode():
            return [_put(points, change.after, change.encode(_records(points)), fields)]
        case Replace():
            places = {point_id: place for place, point_id in enumerate(change.ids)}
            return [_put(points, change.after, change.records[[places[point.id] for point in points]], fields)]


def commits_of(writes: Sequence[ShardWrite]) -> list[list[ShardWrite]]:
    """The writes in order, in as few commits as the limits of one allow: one, unless the metadata is very large."""
    commits: list[list[ShardWrite]] = []
    for piece in (piece for write in writes for piece in pieces_of(write)):
        if commits and _fit([*commits[-1], piece]):
            commits[-1].append(piece)
        else:
            commits.append([piece])
    return commits


def pieces_of(item: ShardWrite) -> list[ShardWrite]:
    """A put that is too large for one commit, cut in halves until it is not; only the whole keeps its receipt."""
    write = item.write
    if not isinstance(write, PutWrite) or len(write.ids) == 1 or _fit([item]):
        return [item]
    puts, half = write.puts, len(write.ids) // 2
    return [
        piece
        for part in (slice(half), slice(half, None))
        for piece in pieces_of(
            replace(
                item,
                write=replace(
                    write,
                    puts=Puts(puts.ids[part], puts.version, puts.records[part], puts.metadata[part]),
                    receipt=None,
                    if_seqs=None if write.if_seqs is None else write.if_seqs[part],
                ),
                values={key: column[part] for key, column in item.values.items()},
            )
        )
    ]


def values_of(metadata: Sequence[Mapping[str, Any]], fields: Fields) -> dict[str, list[Any]]:
    """The values of each filterable field, point after point, as columns hold them.

    Points may have been stored before their fields: what does not fit is missing.
    """
    return {
        key: [column_value(field_value(item, key), kind) for item in metadata]
        if "." in key
        else [column_value(item.get(key), kind) for item in metadata]
        for key, kind in fields.items()
    }


def with_values_of(change: ShardWrite, fields: Fields) -> ShardWrite:
    """The write with values of these fields: they may have changed since it was made."""
    if change.fields is None or change.fields is fields or change.fields == fields:
        return change
    if not isinstance(change.write, PutWrite):
        return change
    metadata = [json.loads(text) for text in change.write.puts.metadata]
    return replace(change, values=values_of(metadata, fields), fields=fields)


def _put(points: Sequence[StoredPoint], version: int, records: NDArray[np.uint8], fields: Fields) -> ShardWrite:
    """The points with other codes and the metadata that they have."""
    puts = Puts([p.id for p in points], version, records, [p.metadata for p in points])
    metadata = [json.loads(p.metadata) for p in points] if fields else [{}] * len(points)
    return ShardWrite(PutWrite(puts, WriteMode.UPDATE_ONLY, if_seqs=_seqs(points)), values_of(metadata, fields))


def _patched(patch: Patch, points: Sequence[StoredPoint], fields: Fields) -> list[ShardWrite]:
    by_version: dict[int, list[StoredPoint]] = {}
    for point in points:
        by_version.setdefault(point.version, []).append(point)
    group = []
    for version, some in by_version.items():
        merged = [_merged(json.loads(point.metadata), patch.changes) for point in some]
        texts = [json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) for metadata in merged]
        for point, metadata, text in zip(some, merged, texts, strict=True):
            _check_size(point.id, metadata, text, patch)
        puts = Puts([point.id for point in some], version, _records(some), texts)
        shrinks = sum(map(len, texts)) <= sum(len(point.metadata) for point in some)
        if patch.low is not None and not shrinks:
            raise patch.low
        write = PutWrite(puts, WriteMode.UPDATE_ONLY, shrinks=shrinks, if_seqs=_seqs(some))
        group.append(ShardWrite(write, values_of(merged, fields)))
    return group


def _fit(writes: Sequence[ShardWrite]) -> bool:
    operations = sum(len(item.write.ids) for item in writes)
    size_bytes = sum(item.write.size_bytes for item in writes)
    return fits_commit(operations, size_bytes)


def _seqs(points: Sequence[StoredPoint]) -> list[int]:
    return [point.seq for point in points]


def _records(points: Sequence[StoredPoint]) -> NDArray[np.uint8]:
    """(points, record_size_bytes) uint8; the points are of one code version."""
    return np.frombuffer(b"".join(point.record for point in points), np.uint8).reshape(len(points), -1)


def _merged(metadata: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = metadata | dict(changes)
    return {key: value for key, value in merged.items() if not (value is None and key in changes)}


def _check_size(point_id: str, metadata: Mapping[str, Any], text: str, patch: Patch) -> None:
    size, most = len(text.encode()), patch.max_metadata_bytes
    if size > most and isinstance(metadata.get(patch.text_field or ""), str):
        size -= len(json.dumps(metadata[patch.text_field or ""], ensure_ascii=False).encode())
    if size > most:
        raise InvalidMetadata(f"the metadata of '{point_id}' would have more than {most} bytes as JSON", id=point_id)
