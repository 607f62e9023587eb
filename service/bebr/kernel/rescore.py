"""Rescore codes: rows in a file, read a few at a time, and their scores, as `bebr.core.scoring` has them to the bit.

A row is a rescore record and its crc32, `row_size_bytes` in all. All functions run with the GIL released.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, need_rescore
from bebr.core.scoring import RescoreQueries, rescore_peak
from bebr.errors import DimensionMismatch
from bebr.kernel import _kernel
from bebr.kernel.checks import select_isa

CHECKSUM_SIZE_BYTES = 4
PREFIX_SIZE_BYTES = 16
RowFile = _kernel.RowFile
NO_SOURCE = -1
_NOT_IN_MEMORY = -2
_WHOLE_LENGTH = 32767
"""Of a column, and of a row, in whole numbers."""


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
    files: Sequence[RowFile], file_of: NDArray[np.int32], rows: NDArray[np.int64], row_size_bytes: int
) -> NDArray[np.uint8]:
    """Rows (n,) int64 of the files file_of (n,) int32 -> (n, row_size_bytes) uint8.

    Those that the system does not have in memory are announced together before the first of them is waited for.
    Raises DamagedRow.
    """
    if len(file_of) != len(rows):
        raise ValueError("expected the number of a file for each row")
    out = np.empty((len(rows), row_size_bytes), np.uint8)
    place, error = _kernel.read_rows(files, file_of, rows, out)
    raise_for(place, error)
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


class Projection:
    """The matrix by which queries for rescore codes are multiplied, in whole numbers: half of the bytes to read, and
    sums that are exact in any order. Rows are rounded to whole numbers too, each with a unit of its own."""

    def __init__(
        self,
        rescore: CodeSpec,
        matrix: NDArray[np.float32],
        column_of: NDArray[np.int64],
        factors: NDArray[np.float32],
    ) -> None:
        """matrix: (size, columns); dimension d of the code has the column column_of[d], times factors[d]."""
        select_isa()
        lengths = np.linalg.norm(matrix.astype(np.float64), axis=0)
        units = np.where(lengths > 0, lengths, 1) / _WHOLE_LENGTH
        columns = np.ascontiguousarray(np.rint(matrix / units).T.astype(np.int16))
        self._size, self._dims = len(matrix), len(column_of)
        self._native = _kernel.RescoreProjection(
            columns,
            units.astype(np.float32),
            column_of.astype(np.int32),
            np.ascontiguousarray(factors, np.float32),
            rescore_peak(rescore),
        )

    def project(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """rows (n, size) float32 -> (n, dims) float32."""
        projected = np.empty((self._check(rows), self._dims), np.float32)
        self._native.project(rows, projected)
        return projected

    def queries(self, rows: NDArray[np.float32]) -> RescoreQueries:
        """What `quantize` makes of the same."""
        count = self._check(rows)
        values, scales = np.empty((count, self._dims), np.int16), np.empty(count, np.float32)
        self._native.queries(rows, values, scales)
        return RescoreQueries(values, scales)

    def _check(self, rows: NDArray[np.float32]) -> int:
        if rows.ndim != 2 or rows.shape[1] != self._size:
            raise DimensionMismatch(f"expected rows of {self._size} numbers, got {rows.shape}")
        return len(rows)


def quantize(projected: NDArray[np.float32], spec: CodeSpec) -> RescoreQueries:
    """projected (queries, rescore.dims) float32, finite -> what `bebr.core.scoring.prepare_rescore` makes of them."""
    rescore = need_rescore(spec)
    if projected.ndim != 2 or projected.shape[1] != rescore.dims:
        raise DimensionMismatch(f"expected queries of {rescore.dims} dims for '{spec}', got {projected.shape}")
    values, scales = np.empty(projected.shape, np.int16), np.empty(len(projected), np.float32)
    _kernel.quantize_rescore(projected, _peak(rescore), values, scales)
    return RescoreQueries(values, scales)


class Sources:
    """Where the rescore records of the rows of parts lie."""

    def __init__(
        self,
        spec: CodeSpec,
        files: Sequence[RowFile],
        arrays: Sequence[NDArray[np.uint8]],
        source_at: Sequence[int],
    ) -> None:
        """source_at: for each part, by its place, where its records lie: in one of `files`, or by `in_array` in one of
        `arrays`, each (rows, rescore_size_bytes) uint8; NO_SOURCE: it has none."""
        select_isa()
        self._spec, self._dims = spec, need_rescore(spec).dims
        self.native = _kernel.RescoreSources(
            _layout(need_rescore(spec)),
            spec.rescore_size_bytes + CHECKSUM_SIZE_BYTES,
            list(files),
            arrays,
            source_at,
        )

    def check(self, queries: RescoreQueries, count: int) -> None:
        """Raise DimensionMismatch unless these are so many queries for its codes."""
        if queries.values.shape != (count, self._dims) or len(queries.scales) != count:
            raise DimensionMismatch(
                f"expected {count} queries of {self._dims} dims for '{self._spec}', got {queries.values.shape}"
            )

    def add_scores(
        self,
        queries: RescoreQueries,
        places: NDArray[np.int32],
        rows: NDArray[np.int64],
        query_of: NDArray[np.int32] | None,
        scores: NDArray[np.float64],
        counts: NDArray[np.int64],
        waits: bool = True,
    ) -> None:
        """Add to scores (n,) float64 what the records of candidates add; to counts (queries,) how many there are.

        places: (n,) int32, of the part of each; rows: (n,) int64, its row there, which must exist. query_of: (n,)
        int32; None: all are of the first query. Raises DamagedRow; without `waits` NotInMemory where a disk would be
        waited for.
        """
        self.check(queries, len(counts))
        if not len(places) == len(rows) == len(scores) == (len(places) if query_of is None else len(query_of)):
            raise ValueError("expected a place, a row, a query and a score for each candidate")
        place, error = self.native.add_scores(
            queries.values, queries.scales, places, rows, query_of, waits, scores, counts
        )
        raise_for(place, error)


def in_array(number: int) -> int:
    """The source that is one of the arrays."""
    return NO_SOURCE - 1 - number


def raise_for(place: int, error: int) -> None:
    """Raise what became of reading rows, unless all were read."""
    if place >= 0:
        raise DamagedRow(place, error)
    if place == _NOT_IN_MEMORY:
        raise NotInMemory


@lru_cache(maxsize=1024)
def _peak(rescore: CodeSpec) -> int:
    return rescore_peak(rescore)


@lru_cache(maxsize=1024)
def _layout(rescore: CodeSpec) -> _kernel.Layout:
    return _kernel.Layout([(block.dims, block.bits) for block in rescore.blocks])
