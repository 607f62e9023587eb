"""Parts: rows of several arrays, handed in once and then scanned together, in one call for each search."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.lists import Cells
from bebr.core.scoring import DotQueries, HammingQueries
from bebr.kernel import _kernel
from bebr.kernel.checks import (
    GROUP_ROWS,
    MAX_ROWS,
    Masks,
    check,
    check_blocked,
    check_dot_queries,
    check_hamming_queries,
    layout_of,
    select_isa,
)
from bebr.kernel.pieces import Pieces


class Candidates(NamedTuple):
    """The best rows of every query, and all that tie with the last of them; by place and row where scores are equal."""

    scores: NDArray[np.float64]
    """(rows,): float32 scores, or minus the distances."""
    places: NDArray[np.int32]
    """(rows,): of each row's part."""
    rows: NDArray[np.int64]
    """(rows,): within the part."""
    starts: NDArray[np.int64]
    """(queries + 1,): query q has the rows starts[q] up to starts[q + 1]."""


class CentroidTable:
    """The centroids of one generation of lists, packed once. Parts of one generation share one table."""

    def __init__(
        self,
        spec: CodeSpec,
        values: NDArray[np.int8],
        scales: NDArray[np.float32],
        generation: int = 1,
        checksum: int | None = None,
        cells: Cells | None = None,
    ) -> None:
        """values (lists, dims) int8, scales (lists, blocks) float32, checksum, cells: see `core.lists.Centroids`."""
        expected = (len(values), spec.dims), (len(values), len(spec.blocks))
        if (values.shape, scales.shape) != expected:
            raise ValueError(f"expected values and scales of {expected}, got {values.shape} and {scales.shape}")
        check(values, np.int8, "values", 1)
        check(scales, np.float32, "scales", 1)
        self.spec = spec
        self.generation = generation
        self.checksum = checksum
        self.cells: CentroidTable | None = None if cells is None else CentroidTable(spec, cells.values, cells.scales)
        begin = [] if cells is None else cells.begin.tolist()
        if cells is not None and (len(begin) != len(cells) + 1 or begin[0] != 0 or begin[-1] != len(values)):
            raise ValueError(f"expected {len(cells)} cells of {len(values)} lists in all, got {begin}")
        if sorted(begin) != begin:
            raise ValueError("expected cells that ascend")
        of_cells = None if self.cells is None else self.cells.native
        self.native: _kernel.CentroidTable = _kernel.make_centroid_table(
            layout_of(spec), values, scales, generation, of_cells, begin
        )
        self._lists = len(values)

    def __len__(self) -> int:
        return self._lists


class Parts:
    """Growing list of parts; each has the place at which it was added. Their arrays must not be changed, but for rows
    beyond those that were announced."""

    def __init__(self) -> None:
        self.native = _kernel.Parts()
        self._specs: list[CodeSpec] = []
        self._rows: list[int] = []

    def __len__(self) -> int:
        return len(self._specs)

    def add_sorted(
        self,
        blocked: NDArray[np.uint8],
        gains: NDArray[np.float16],
        rows: int,
        spec: CodeSpec,
        live: NDArray[np.uint16] | None,
        ids: tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.uint64]],
        by_id: bool = True,
        lists: tuple[CentroidTable, NDArray[np.uint32]] | None = None,
        pieces: tuple[Pieces, Pieces] | None = None,
    ) -> None:
        """A part whose ids lie in a table. live: mask of the rows that count, None: all. ids: offsets, blob, lookup;
        see `bebr.index.strings`. by_id: whether rows are in ascending order of id; else all that tie are found.
        lists: their centroids, and begin (lists + 1,) uint32: list l has the rows begin[l] up to begin[l + 1]; all rows
        are in one, and not in the order of their ids. pieces: of `blocked` and `gains` where these are mapped; rows are
        then checked before they are scanned, and scans raise DamagedRows."""
        self._check(blocked, gains, rows, spec, live)
        table, begin = lists or (None, None)
        if table is not None and begin is not None:
            check_begin(begin, table, rows, spec)
        if pieces is not None and (pieces[0].size, pieces[1].size) != (blocked.nbytes, gains.nbytes):
            raise ValueError(f"pieces of {pieces[0].size} and {pieces[1].size} bytes are not of these codes and gains")
        natives = (None, None) if pieces is None else (pieces[0].native, pieces[1].native)
        offsets, blob, lookup = ids
        check(offsets, np.uint64, "offsets", rows + 1)
        check(blob, np.uint8, "blob")
        check(lookup, np.uint64, "lookup", rows)
        self.native.add_table(
            layout_of(spec), blocked, gains.view(np.uint16), rows, live, offsets, blob, lookup, by_id,
            None if table is None else table.native, begin, *natives,
        )  # fmt: skip
        self._note(rows, spec)

    def add_unsorted(
        self,
        blocked: NDArray[np.uint8],
        gains: NDArray[np.float16],
        rows: int,
        spec: CodeSpec,
        live: NDArray[np.uint16] | None,
        ids: list[str],
    ) -> None:
        """A part whose rows are in no order. ids: of at least these rows; more may be appended."""
        self._check(blocked, gains, rows, spec, live)
        if len(ids) < rows:
            raise ValueError(f"expected {rows} ids, got {len(ids)}")
        self.native.add_list(layout_of(spec), blocked, gains.view(np.uint16), rows, live, ids)
        self._note(rows, spec)

    def ids(self, places: NDArray[np.int32], rows: NDArray[np.int64]) -> list[str | None]:
        """The ids of rows; None where one is not what was written."""
        found: list[str | None] = self.native.ids(places, rows)
        return found

    def best(
        self, scores: NDArray[np.float64], places: NDArray[np.int32], rows: NDArray[np.int64], limit: int
    ) -> tuple[list[float], list[str], list[int], int]:
        """The `limit` best rows by scores (n,) float64, best first, of equal ones those of lower ids: their scores, ids
        and places. And the position of a row whose id is not what was written; -1: there is none."""
        return self.native.best(scores, places, rows, limit)

    def _check(
        self,
        blocked: NDArray[np.uint8],
        gains: NDArray[np.float16],
        rows: int,
        spec: CodeSpec,
        live: NDArray[np.uint16] | None,
    ) -> None:
        if not 0 <= rows <= MAX_ROWS:
            raise ValueError(f"rows must be between 0 and {MAX_ROWS}, got {rows}")
        check_blocked(blocked, rows, layout_of(spec))
        check(gains, np.float16, "gains", rows)
        if live is not None:
            check(live, np.uint16, "live", -(-rows // GROUP_ROWS))

    def _note(self, rows: int, spec: CodeSpec) -> None:
        self._specs.append(spec)
        self._rows.append(rows)

    def select(self, places: Sequence[int]) -> "Selection":
        """Some of them, to be scanned together. ValueError where their CodeSpecs differ, or there are none."""
        specs = {self._specs[place] for place in places}
        if len(specs) != 1:
            raise ValueError(f"expected parts of one CodeSpec, got {len(specs)}")
        return Selection(self, specs.pop(), list(places), [self._rows[place] for place in places])


def check_begin(begin: NDArray[np.uint32], table: CentroidTable, rows: int, spec: CodeSpec) -> None:
    """Raise ValueError unless these are the beginnings of the table's lists in a part of so many rows."""
    check(begin, np.uint32, "begin", len(table) + 1)
    if table.spec != spec or len(begin) != len(table) + 1:
        raise ValueError(f"expected {len(table)} lists for '{table.spec}', got {len(begin) - 1} for '{spec}'")
    if begin[0] != 0 or begin[-1] != rows or (begin[1:] < begin[:-1]).any():
        raise ValueError(f"expected lists that ascend from row 0 to row {rows}")


class Selection(NamedTuple):
    """Parts of one CodeSpec that are scanned together."""

    parts: Parts
    spec: CodeSpec
    places: list[int]
    rows: list[int]
    """Of each part."""

    def check_wanted(
        self, k: int, masks: Sequence[Masks], mask_of_query: NDArray[np.int32] | None, queries: int
    ) -> None:
        """Raise ValueError unless there is a mask for each part in each of `masks`."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        for of_parts in masks:
            for rows, mask in zip(self.rows, of_parts, strict=True):
                check(mask, np.uint16, "mask", -(-rows // GROUP_ROWS))
        if mask_of_query is not None:
            check(mask_of_query, np.int32, "mask_of_query", queries)
            if len(mask_of_query) and not -1 <= int(mask_of_query.min()) <= int(mask_of_query.max()) < len(masks):
                raise ValueError(f"mask_of_query must lie between -1 and {len(masks) - 1}")
        elif len(masks) > 1:
            raise ValueError(f"{len(masks)} masks need a mask_of_query")


def dot_candidates(
    selection: Selection,
    queries: DotQueries,
    k: int,
    masks: Sequence[Masks] = (),
    mask_of_query: NDArray[np.int32] | None = None,
    floors: NDArray[np.float32] | None = None,
) -> Candidates:
    """The k best rows of each query by sdc or adc, over all parts that were selected.

    masks: each has a mask for every part, which replaces what is live there; by number in mask_of_query (queries,)
    int32, where -1 means what is live. Without it, masks[0] is for all queries. floors: (queries,) float32; only rows
    that score at least this much. Raises DimensionMismatch when the queries do not fit.
    """
    select_isa()
    count = check_dot_queries(queries, selection.spec)
    selection.check_wanted(k, masks, mask_of_query, count)
    if floors is not None:
        check(floors, np.float32, "floors", count)
    return Candidates(
        *_kernel.dot_candidates(
            selection.parts.native, selection.places, queries.values, queries.scales, k, masks, mask_of_query, floors
        )
    )


def hamming_candidates(
    selection: Selection,
    queries: HammingQueries,
    k: int,
    masks: Sequence[Masks] = (),
    mask_of_query: NDArray[np.int32] | None = None,
    ceilings: NDArray[np.int32] | None = None,
) -> Candidates:
    """The k nearest rows of each query by the distance of their sign planes; otherwise as `dot_candidates`.

    ceilings: (queries,) int32; only rows at most this far. Raises InvalidCode when the queries do not fit.
    """
    select_isa()
    count = check_hamming_queries(queries, selection.spec)
    selection.check_wanted(k, masks, mask_of_query, count)
    if ceilings is not None:
        check(ceilings, np.int32, "ceilings", count)
    return Candidates(
        *_kernel.hamming_candidates(
            selection.parts.native, selection.places, queries.codes, k, masks, mask_of_query, ceilings
        )
    )
