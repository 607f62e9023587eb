"""Records that were made elsewhere, by the binarizer of a version: checked as whole arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import GAIN_SIZE_BYTES, CodeSpec, check_padding
from bebr.core.operations import Receipt
from bebr.core.types import WriteMode
from bebr.engine.collections.version import Version, VersionKind
from bebr.engine.results import ItemError
from bebr.engine.write.commit import make_receipt
from bebr.engine.write.parse import Draft, Rules, Source, read_rows
from bebr.errors import BebrError, DimensionMismatch, Incompatible, InvalidCode, InvalidOption


@dataclass(frozen=True, slots=True)
class GivenRecords:
    """Records, and what made them."""

    rows: NDArray[np.uint8]
    """(points, record_size_bytes) uint8."""
    spec: CodeSpec
    """Layout of the codes."""
    fingerprint: str | None
    """Of the bundle whose binarizer made them; None: none did."""


def check_made_by(name: str, version: Version, records: GivenRecords) -> None:
    """Raise Incompatible unless what made the records makes those of this version. name: of the collection."""
    if version.kind is VersionKind.BUFFERED:
        raise InvalidOption(
            "points of this collection are kept as embeddings until its fit: send 'text' or a vector", key="code"
        )
    if (records.fingerprint, records.spec) != (version.fingerprint, version.spec):
        raise Incompatible(
            f"the active version '{version.id}' of '{name}' has {_said(version.spec, version.fingerprint)}, and the "
            f"records are {_said(records.spec, records.fingerprint)}; encode with the bundle of the collection, "
            "or write to a collection of that bundle",
            key="fingerprint",
            active_version=version.id,
        )


def _said(spec: CodeSpec, fingerprint: str | None) -> str:
    by = f"by the bundle with fingerprint {fingerprint[:16]}..." if fingerprint else "that no bundle makes"
    return f"codes '{spec}' {by}"


def receipt_of(
    key: str | None, mode: WriteMode, ids: Sequence[object], records: GivenRecords, metadata: Sequence[object] | None
) -> Receipt | None:
    """What makes a retry safe, see `make_receipt`."""
    content = (ids, metadata, str(records.spec), records.fingerprint)
    return make_receipt(key, mode, content, records.rows)


def read_records(
    ids: Sequence[object], records: GivenRecords, metadata: Sequence[object] | None, rules: Rules
) -> tuple[list[Draft], NDArray[np.uint8], list[ItemError]]:
    """Records with ids and metadata -> drafts, their records, errors of the others.

    Raises DimensionMismatch when counts differ.
    """
    if len(ids) != len(records.rows) or (metadata is not None and len(metadata) != len(ids)):
        raise DimensionMismatch(
            f"expected an id and metadata for each of {len(records.rows)} records, got {len(ids)} ids"
        )
    drafts, errors = read_rows(ids, metadata, _faults(records), Source.CODE, rules)
    return drafts, records.rows[[draft.index for draft in drafts]], errors


def _faults(records: GivenRecords) -> dict[int, BebrError]:
    """What is wrong with which record."""
    spec, rows = records.spec, records.rows
    scan = spec.code_size_bytes
    faults: dict[int, BebrError] = {}
    _check(rows[:, :scan], rows[:, scan : scan + GAIN_SIZE_BYTES], spec, faults, zero=False)
    if spec.rescore is not None:
        finer = rows[:, spec.scan_record_size_bytes :]
        _check(finer[:, :-GAIN_SIZE_BYTES], finer[:, -GAIN_SIZE_BYTES:], spec.rescore, faults, zero=True)
    return faults


def _check(
    codes: NDArray[np.uint8], gains: NDArray[np.uint8], spec: CodeSpec, faults: dict[int, BebrError], *, zero: bool
) -> None:
    """zero: whether a gain may be 0."""
    values = np.ascontiguousarray(gains).view("<f2")[:, 0]
    sound = np.isfinite(values) & ((values >= 0) if zero else (values > 0))
    for row in np.flatnonzero(~sound).tolist():
        faults.setdefault(row, InvalidCode(f"the gain of a code must be a positive number, got {values[row]}", row=row))
    for row in np.flatnonzero(~check_padding(codes, spec)).tolist():
        faults.setdefault(row, InvalidCode(f"the padding bits of a code of '{spec}' must be zero", row=row))
