"""Projections: how embeddings become queries of adc, handed in once, so that one call does all of a search."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.core.scoring import DotQueries, RescoreQueries
from bebr.errors import DimensionMismatch
from bebr.kernel import _kernel
from bebr.kernel.checks import Masks, check, layout_of, select_isa
from bebr.kernel.parts import Selection
from bebr.kernel.rescore import Sources, raise_for


class Nearest(NamedTuple):
    """The best rows of one query."""

    scores: list[float]
    """Best first, of equal ones those of lower ids."""
    ids: list[str]
    places: list[int]
    damaged: int
    """At least 0 where an id is not what was written, and what is here is of no use; else -1."""


class Projection:
    """A product with a matrix, and 8 bits a dim: what `project` and `quantize` make of an embedding."""

    def __init__(
        self,
        spec: CodeSpec,
        matrix: Floats,
        of: NDArray[np.int64] | None,
        factors: Floats,
        steps: NDArray[np.float32],
    ) -> None:
        """matrix (size, columns) float32. of (dims,) int64: the column of each dim, which is multiplied by factors
        (dims,) float32; None: each column is a dim. steps (blocks,) float32."""
        check(matrix, np.float32, "matrix")
        check(steps, np.float32, "steps", len(spec.blocks))
        if matrix.ndim != 2 or (of is None and matrix.shape[1] != spec.dims):
            raise DimensionMismatch(f"expected a matrix for '{spec}', got one of {matrix.shape}")
        if of is not None:
            check(of, np.int64, "of", spec.dims)
            check(factors, np.float32, "factors", spec.dims)
            if not 0 <= int(of.min()) <= int(of.max()) < matrix.shape[1]:
                raise ValueError(f"of must lie between 0 and {matrix.shape[1] - 1}")
        self.spec = spec
        self.size = len(matrix)
        """Of an embedding."""
        self.native = _kernel.Projection(layout_of(spec), matrix, of, None if of is None else factors, steps)


class NearestOfAll(NamedTuple):
    """What one call found."""

    found: list[Nearest]
    """Of each query."""
    queries: DotQueries | None
    """What was scanned for; None: nobody asked."""
    lists: NDArray[np.int64] | None
    """(queries,): how many lists each has read; None: all rows were scored."""
    rows: NDArray[np.int64] | None
    """(queries,): how many rows, in all."""
    seconds: float
    """Of processor time that the scan took; 0: nobody asked."""


class Reading(NamedTuple):
    """How lists are read; see `kernel.list_candidates`."""

    deltas: NDArray[np.float32]
    """(queries,)."""
    stop_at: NDArray[np.int32]
    """(queries,)."""
    flat_rows: NDArray[np.int64]
    """(queries,)."""


class Filtering(NamedTuple):
    """Which rows may be found; see `kernel.dot_candidates`."""

    masks: Sequence[Masks] = ()
    """Of the selected parts, for each filter."""
    mask_of_query: NDArray[np.int32] | None = None
    """(queries,); None: there are no masks."""
    floors: NDArray[np.float32] | None = None
    """(queries,): scores of the scan; None: all are found."""


class Finer(NamedTuple):
    """How the best rows of the scan are scored again."""

    sources: Sources
    """Of their rescore codes."""
    queries: RescoreQueries
    """As these take them."""
    most: NDArray[np.int64]
    """(queries,): how many rows of each query; of equal scores those of lower ids."""
    waits: bool = False
    """Whether rescore codes are waited for that lie on a disk."""


ALL_ROWS = Filtering()


def nearest(
    selection: Selection,
    projection: Projection,
    embeddings: Floats,
    k: int,
    added: NDArray[np.float64] | None = None,
    reading: Reading | None = None,
    filtering: Filtering = ALL_ROWS,
    finer: Finer | None = None,
    *,
    limit: int | None = None,
    keeps: bool = False,
    measures: bool = False,
) -> NearestOfAll:
    """The k best rows by adc of each of embeddings (queries, size) float32, over all parts that were selected.

    added: (queries,) float64, to the scores of each. reading: None: all rows are scored. finer: None: rows keep the
    scores of the scan. limit: of those k, so many are returned; None: all. keeps: whether the queries are returned.
    measures: whether it is measured how long the scan takes. The same as `project`, `quantize`, `dot_candidates` or
    `list_candidates`, `Sources.add_scores` and `Parts.best`. Other threads run Python meanwhile where it takes longer
    than to let them. Raises DimensionMismatch, DamagedRow, DamagedRows; without `finer.waits` NotInMemory where a disk
    would be waited for.
    """
    select_isa()
    check(embeddings, np.float32, "embeddings")
    if (
        (projection.spec is not selection.spec and projection.spec.blocks != selection.spec.blocks)
        or embeddings.ndim != 2
        or embeddings.shape[1] != projection.size
    ):
        raise DimensionMismatch(
            f"expected embeddings of {projection.size} numbers and codes '{projection.spec}', got {embeddings.shape} "
            f"and '{selection.spec}'"
        )
    count, (masks, mask_of_query, floors) = len(embeddings), filtering
    selection.check_wanted(k, masks, mask_of_query, count)
    if added is not None:
        check(added, np.float64, "added", count)
    if reading is not None:
        check(reading.deltas, np.float32, "deltas", count)
        check(reading.stop_at, np.int32, "stop_at", count)
        check(reading.flat_rows, np.int64, "flat_rows", count)
    if floors is not None:
        check(floors, np.float32, "floors", count)
    sources, values, scales, most, waits = None, None, None, None, False
    if finer is not None:
        finer.sources.check(finer.queries, count)
        check(finer.most, np.int64, "most", count)
        sources, most, waits = finer.sources.native, finer.most, finer.waits
        values, scales = finer.queries.values, finer.queries.scales
    deltas, stop_at, flat_rows = reading or (None, None, None)
    found, queries, read, rows_read, seconds = _kernel.nearest(
        selection.parts.native, selection.places, projection.native, embeddings, k, limit or k, added, masks,
        mask_of_query, floors, deltas, stop_at, flat_rows, keeps, measures, sources, values, scales, most, waits,
    )  # fmt: skip
    raise_for(*rows_read)
    lists, rows = read or (None, None)
    return NearestOfAll(
        [Nearest(*one) for one in found], None if queries is None else DotQueries(*queries), lists, rows, seconds
    )
