"""Points with their codes of all versions: out by id, page by page, and checked on their way in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.config import Limits
from bebr.core.types import StoredPoint, check_id
from bebr.engine.answers import PAGE_IDS, AnswerSize, size_of
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.version import Version
from bebr.engine.cursors import read_scroll_cursor, write_scroll_cursor
from bebr.engine.inputs import read_base64, read_code
from bebr.engine.results import ItemError
from bebr.engine.write.commit import Batch
from bebr.engine.write.parse import Draft, Rules, Source, item_error, read_metadata, rules_for
from bebr.errors import BebrError, DuplicateId, InvalidCode, InvalidOption, VersionNotFound

KEYS = frozenset({"id", "version_number", "code_b64", "metadata"})


@dataclass(frozen=True, slots=True)
class ExportedPage:
    """Points as they are stored."""

    points: list[StoredPoint]
    cursor: str | None
    """Where the next page begins; None: this is the last one."""


async def read_page(collection: Collection, limit: int, cursor: str | None, size: AnswerSize) -> ExportedPage:
    """Points by ascending id, each as it is now. Raises DamagedPoint: an export lacks nothing."""
    points: list[StoredPoint] = []
    after = None if cursor is None else read_scroll_cursor(cursor)
    while len(points) < limit:
        ids = await collection.shards.ids(None, after, min(limit - len(points), PAGE_IDS))
        if not ids:
            return ExportedPage(points, None)
        found = await collection.fetch(ids, records=True)
        for point_id in ids:
            if (point := found.get(point_id)) is None:  # deleted since
                continue
            if not size.fits(size_of(point.metadata, point.record)) and points:
                return ExportedPage(points, write_scroll_cursor(points[-1].id))
            points.append(point)
        after = ids[-1]
    return ExportedPage(points, None if after is None else write_scroll_cursor(after))


def read_records(
    points: Sequence[object], collection: Collection, limits: Limits
) -> tuple[list[Batch], list[ItemError]]:
    """Points as they were exported -> a batch for each version, and an error for each of the others."""
    drafts: dict[int, list[Draft]] = {}
    records: dict[int, list[NDArray[np.uint8]]] = {}
    rules: dict[int, Rules] = {}
    errors: list[ItemError] = []
    seen: set[str] = set()
    for index, point in enumerate(points):
        try:
            version, draft, record = _read(index, point, collection, rules, limits)
            if draft.id in seen:
                raise DuplicateId(f"duplicate id {draft.id!r} in this batch; the first was kept", id=draft.id)
            seen.add(draft.id)
            drafts.setdefault(version.number, []).append(draft)
            records.setdefault(version.number, []).append(record)
        except BebrError as error:
            errors.append(item_error(index, point.get("id") if isinstance(point, dict) else None, error))
    versions = collection.document.versions
    return [Batch(some, versions[number], np.stack(records[number]), []) for number, some in drafts.items()], errors


def _read(
    index: int, point: object, collection: Collection, rules: dict[int, Rules], limits: Limits
) -> tuple[Version, Draft, NDArray[np.uint8]]:
    if not isinstance(point, dict) or point.keys() != KEYS:
        raise InvalidOption(f"an exported point is an object with {sorted(KEYS)}", key=None)
    version = _version(point["version_number"], collection)
    if version.number not in rules:
        # values that do not fit their fields are as they were: the other service let them be
        rules[version.number] = replace(rules_for(collection, version, limits), fields={})
    point_id = check_id(point["id"])
    data = read_base64(point["code_b64"], "code_b64", InvalidCode)
    record = read_code(data, version.spec, version.steps)
    if record.tobytes() != data:
        raise InvalidCode(
            f"expected a whole record of {version.spec.record_size_bytes} bytes of version '{version.id}', got "
            f"{len(data)}",
            key="code_b64",
        )
    values, text = read_metadata(_object(point["metadata"]), rules[version.number])
    return version, Draft(index, point_id, Source.CODE, None, values, text), record


def _object(metadata: Any) -> Mapping[str, Any]:
    if not isinstance(metadata, dict):
        raise InvalidOption("'metadata' of an exported point is an object", key="metadata")
    return metadata


def _version(number: Any, collection: Collection) -> Version:
    versions = collection.document.versions
    if type(number) is not int or not 0 <= number < len(versions):
        raise VersionNotFound(
            f"'version_number' must be 0 to {len(versions) - 1}, got {number!r:.40}", version=str(number)[:40]
        )
    if versions[number].retired:
        raise VersionNotFound(f"version {number} of '{collection.name}' is retired", version=versions[number].id)
    return versions[number]
