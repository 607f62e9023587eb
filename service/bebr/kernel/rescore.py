"""Rescore codes: rows in a file, read a few at a time, and their scores, as `bebr.core.scoring` has them to the bit.

A row is a rescore record and its crc32, `row_size_bytes` in all. All functions run with the GIL released.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, need_rescore
from bebr.core.scoring import RescoreQueries
from bebr.errors import DimensionMismatch
from bebr.kernel import _kernel

CHECKSUM_SIZE_BYTES = 4
PREFIX_SIZE_BYTES = 16
RowFile = _kernel.RowFile
_NOT_IN_MEMORY = -2


class DamagedRow(Exception):
    """A row is not what was written, or cannot be read."""

    def __init__(self, place: int, error: int) -> None:
        """place: of the row among those that were wanted. error: errno, or 0 where the row has not its checksum."""
        super().__init__(place, error)
        self.place, self.error = place, error


class NotInMemory(Exception):
    """Rows must be waited for."""


def open_rows(path: Path, prefix: bytes, first_byte: int, row_size_bytes: int) -> RowFile:
    """Rows that begin at `first_byte` of a file. prefix: how the file begins, (PREFIX_SIZE_BYTES,).

    The file is opened when rows are read, and closed when many others were read since: where it is gone by then, or
    begins in another way, its rows cannot be read any more.
    """
    return _kernel.RowFile(str(path), prefix, first_byte, row_size_bytes)


def read_rows(
    files: Sequence[RowFile],
    file_of: NDArray[np.int32],
    rows: NDArray[np.int64],
    row_size_bytes: int,
    waits: bool = True,
) -> NDArray[np.uint8]:
    """Rows (n,) int64 of the files file_of (n,) int32 -> (n, row_size_bytes) uint8; zeros where file_of is negative.

    Those that the system does not have in memory are announced together before the first of them is waited for.
    Raises DamagedRow; without `waits` NotInMemory instead of waiting.
    """
    if any(file.row_size != row_size_bytes for file in files):
        raise ValueError(f"expected files with rows of {row_size_bytes} bytes")
    if len(file_of) != len(rows) or (len(rows) and int(file_of.max()) >= len(files)):
        raise ValueError("expected the number of a file for each row")
    out = np.zeros((len(rows), row_size_bytes), np.uint8)
    place, error = _kernel.read_rows(files, file_of, rows, waits, out)
    if place >= 0:
        raise DamagedRow(place, error)
    if place == _NOT_IN_MEMORY:
        raise NotInMemory
    return out


def with_checksums(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """records (rows, size) uint8 -> rows (rows, size + 4) uint8."""
    rows = np.empty((len(records), records.shape[1] + CHECKSUM_SIZE_BYTES), np.uint8)
    rows[:, :-CHECKSUM_SIZE_BYTES] = records
    _kernel.seal_rows(rows)
    return rows


def are_sound(rows: NDArray[np.uint8]) -> bool:
    """Whether all rows (rows, row_size_bytes) uint8 have their checksums."""
    return _kernel.count_sound_rows(rows) == len(rows)


def scores(
    spec: CodeSpec, queries: RescoreQueries, records: NDArray[np.uint8], query_of: NDArray[np.int32]
) -> NDArray[np.float32]:
    """What is added to the scan's score of each record, (n,) float32.

    records: (n, at least rescore_size_bytes) uint8, what follows is not read. query_of: (n,) int32, ascending.
    """
    layout = _layout(need_rescore(spec))
    if queries.values.shape[1:] != (layout.dims,) or records.shape[1] < spec.rescore_size_bytes:
        raise DimensionMismatch(
            f"expected queries and records for the rescore code of '{spec}', got {queries.values.shape} and "
            f"{records.shape}"
        )
    if len(query_of) != len(records) or (len(query_of) and not 0 <= query_of[0] <= query_of[-1] < len(queries)):
        raise ValueError(f"expected a query of {len(queries)} for each record")
    found = np.empty(len(records), np.float32)
    _kernel.rescore(layout, queries.values, queries.scales, records, query_of, found)
    return found


@lru_cache(maxsize=1024)
def _layout(rescore: CodeSpec) -> _kernel.Layout:
    return _kernel.Layout([(block.dims, block.bits) for block in rescore.blocks])
