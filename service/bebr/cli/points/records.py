"""Record files to a collection: nothing is encoded again, and the service refuses what another bundle made."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bebr.cli.files.columns import value_of
from bebr.cli.files.record_files import Batch, Made, count_records, read_made, read_records
from bebr.cli.files.sources import MAX_LISTED, paths_of
from bebr.cli.points.destination import Wanted, find_or_create
from bebr.client.values import from_json
from bebr.core.types import FieldType, WriteMode
from bebr.errors import BebrError, CollectionNotFound, Conflict, Incompatible, InvalidOption

if TYPE_CHECKING:
    from bebr.client import Client

BATCH_POINTS = 5_000
SHOWN_ERRORS = 10


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """Record files of one bundle."""

    paths: Sequence[Path]
    made: Sequence[Made]
    """What made each of them."""

    def check_texts(self, text_field: str | None) -> None:
        """They hold no texts, whatever the collection keeps."""

    def first_point(self) -> Mapping[str, Any] | None:
        """None: the bundle says what collection they need."""
        return None

    def batches(self) -> Iterator[tuple[Path, Batch]]:
        for path, made in zip(self.paths, self.made, strict=True):
            for batch in read_records(path, made, BATCH_POINTS):
                yield path, batch


def find_record_files(files: Sequence[str]) -> RecordFiles | None:
    """The files, where `bebr encode` wrote them; None: it did not.

    Raises InvalidOption where only some are record files; Conflict where they are of several bundles, or a folder lacks
    parts.
    """
    paths = [path for file in files for path in paths_of(file)]
    found: list[tuple[Path, Made]] = []
    for path in paths:
        if path is not None and path.suffix.lower() == ".parquet" and path.is_file():
            made = read_made(path)
            found += [] if made is None else [(path, made)]
    if not found:
        return None
    if len(found) < len(paths):
        other = next(path for path in paths if path not in dict(found))
        raise InvalidOption(
            f"{found[0][0].name} is encoded already, and {other} is not; ingest them one after the other"
        )
    _check_same(found)
    for file in files:
        if Path(file).is_dir():
            _check_whole(Path(file), [made for path, made in found if path.parent == Path(file)])
    return RecordFiles([path for path, _ in found], [made for _, made in found])


def _check_same(found: Sequence[tuple[Path, Made]]) -> None:
    (first, made), *others = found
    for path, other in others:
        if (other.fingerprint, other.code) != (made.fingerprint, made.code):
            raise Conflict(
                f"{first} has codes '{made.code}' by {made.bundle} ({made.fingerprint[:16]}...), and {path} has "
                f"'{other.code}' by {other.bundle} ({other.fingerprint[:16]}...); ingest those of one bundle"
            )


def _check_whole(folder: Path, made: Sequence[Made]) -> None:
    there = {one.part for one in made}
    missing = [part for part in range(made[0].parts) if part not in there] if made else []
    if missing:
        shown = ", ".join(map(str, missing[:SHOWN_ERRORS])) + (" ..." if missing[SHOWN_ERRORS:] else "")
        raise Conflict(
            f"{folder} lacks {len(missing)} of {made[0].parts} parts ({shown}); encode them, or name files to ingest "
            "only these"
        )


def ingest_records(
    records: RecordFiles, collection: str, wanted: Wanted, mode: WriteMode, service: "Client", as_json: bool
) -> None:
    """Write all of them, and print what became of them; exits with 1 where some were rejected."""
    from bebr.cli.output import err

    made = records.made[0]
    if wanted.bundle not in (None, made.bundle):
        raise InvalidOption(
            f"--bundle: the files were encoded by {made.bundle}, got {wanted.bundle}", option="--bundle"
        )
    with service:
        described, created = find_or_create(
            service, collection, _for_bundle(service, collection, wanted, made), records
        )
        if created:
            err().print(created, markup=False)
        fields = {key: FieldType(kind) for key, kind in described["filterable"].items()} if made.columns else {}
        started = time.monotonic()
        applied, errors = _send(service, collection, records, fields, mode)
    _report(applied, errors, applied / max(time.monotonic() - started, 1e-9), as_json)
    if errors:
        sys.exit(1)


def _for_bundle(service: "Client", collection: str, wanted: Wanted, made: Made) -> Wanted:
    """What a new collection is created with. Raises Incompatible where the service has another bundle of that id."""
    try:
        service.describe_collection(collection)
        return replace(wanted, bundle=None)
    except CollectionNotFound:
        pass
    here = next((one for one in service.list_bundles() if one["id"] == made.bundle), None)
    if here is not None and here["fingerprint"] != made.fingerprint:
        raise Incompatible(
            f"the files were encoded by {made.bundle} with the fingerprint {made.fingerprint[:16]}..., and the service "
            f"has {here['fingerprint'][:16]}... under that id; put the bundle that encoded into its bundles folder"
        )
    return replace(wanted, bundle=made.bundle)


def _send(
    service: "Client", collection: str, records: RecordFiles, fields: Mapping[str, FieldType], mode: WriteMode
) -> tuple[int, list[dict[str, Any]]]:
    """-> (how many were applied, what was rejected)."""
    from bebr.cli.output import shown_progress

    made, total = records.made[0], sum(map(count_records, records.paths))
    applied = done = 0
    errors: list[dict[str, Any]] = []
    with shown_progress("writing points") as show:
        for path, batch in records.batches():
            metadata = [_typed(from_json(text.encode()), fields) for text in batch.metadata]
            kept = _last_of_each(batch.ids)
            try:
                report = service.upsert_records(
                    collection,
                    [batch.ids[place] for place in kept],
                    batch.records[kept],
                    [metadata[place] for place in kept],
                    code=made.code,
                    fingerprint=made.fingerprint,
                    mode=mode,
                )
            except BebrError as error:
                before = f" (before that, {applied:,} of {total:,} points were applied)" if applied else ""
                raise type(error)(f"{error.detail}{before}", **error.fields) from error
            applied += report.applied + len(batch.ids) - len(kept)
            for item in report.items:
                row = batch.first + kept[item.index] + 1
                said = {"line": row, "id": item.id, "error": item.error, "detail": item.detail}
                errors.append({**said, "file": path.name})
            done += len(batch.ids)
            show(done, total, "writing points")
    return applied, errors


def _typed(metadata: dict[str, Any], fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """Cells of columns as the types of their fields, as where the file is ingested itself."""
    if not fields.keys() & metadata.keys():
        return metadata
    return {key: value_of(value, fields.get(key)) for key, value in metadata.items()}


def _last_of_each(ids: Sequence[str]) -> list[int]:
    """The places of ids, of those that are repeated the last one."""
    last = {point_id: place for place, point_id in enumerate(ids)}
    return sorted(last.values())


def _report(applied: int, errors: list[dict[str, Any]], rate: float, as_json: bool) -> None:
    from bebr.cli.output import err, out, print_json

    count = len(errors)
    if as_json:
        done = {"state": "succeeded", "received": applied + count, "applied": applied, "rejected": count}
        print_json({"job": None, **done, "rate_per_s": rate, "detail": None, "errors": errors[:MAX_LISTED]})
        return
    out().print(f"{applied:,} applied, {count:,} rejected at {rate:,.0f}/s")
    for error in errors[:SHOWN_ERRORS]:
        err().print(f"{error['file']}: row {error['line']}: {error['error']}: {error['detail']}", markup=False)
    if count > SHOWN_ERRORS:
        err().print(f"... and {count - SHOWN_ERRORS:,} more; --json lists them")
