"""Exhaustive search in numpy: the k best rows of every query, best first, ties by ascending row, as in the service.

The service scans codes with its kernel; here the scores of a chunk of queries are one matrix product. For codes of
bundles they equal those of `bebr.core.scoring` to the last bit (see `coded`), so the rankings are those of the service.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.topk import top_rows

Rows = NDArray[np.int64]
Score = Callable[[Floats], Floats]
"""queries (queries, dims) float32 -> scores (queries, rows) float32, higher is better."""
Search = Callable[[Floats, int], Rows]
"""(queries (queries, dims) float32, k) -> rows (queries, k) int64, best first."""

CHUNK_SCORES = 16_000_000
"""Maximum number of scores in memory at once: 64 MB."""


def search_by(score: Score, rows: int) -> Search:
    """A search that ranks `rows` rows by `score`, one chunk of queries at a time."""

    def search(queries: Floats, k: int) -> Rows:
        found = np.empty((len(queries), k), np.int64)
        size = max(1, CHUNK_SCORES // rows)
        for start in range(0, len(queries), size):
            found[start : start + size] = top_rows(score(queries[start : start + size]), k)
        return found

    return search


def dot_search(values: Floats, prepare: Callable[[Floats], Floats] | None = None) -> Search:
    """A search by <prepare(query), values[row]>; values (rows, n) float32. Without `prepare`: <query, values[row]>."""
    columns = values.T
    return search_by(lambda queries: (prepare(queries) if prepare else queries) @ columns, len(values))
