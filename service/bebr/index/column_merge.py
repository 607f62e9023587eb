"""One column of rows that several columns of the same field have."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bebr.core.types import FieldType
from bebr.index.columns import ArrayColumn, Column, KeywordColumn, ScalarColumn, items_of
from bebr.index.strings import StringTable

Rows = Sequence[NDArray[np.int64]]


def merge_columns(kind: FieldType, columns: Sequence[Column], rows: Rows, order: NDArray[np.int64]) -> Column:
    """The rows (n,) of each column, one column after the other, and then those of all in this order (all,) int64."""
    if not kind.is_array:
        return _merge_scalars(kind, columns, rows, order)
    arrays = [(column, some) for column, some in zip(columns, rows, strict=True) if isinstance(column, ArrayColumn)]
    counts = np.concatenate([np.diff(column.starts)[some] for column, some in arrays])
    first = np.concatenate([[0], np.cumsum(counts)])
    starts = np.concatenate([[0], np.cumsum(counts[order])])
    of_rows = [items_of(column.starts, some) for column, some in arrays]
    items = [column.items for column, _ in arrays]
    return ArrayColumn(kind, starts, _merge_scalars(kind.element, items, of_rows, items_of(first, order)))


def _merge_scalars(
    kind: FieldType, columns: Sequence[Column], rows: Rows, order: NDArray[np.int64]
) -> ScalarColumn | KeywordColumn:
    pairs = list(zip(columns, rows, strict=True))
    if kind is FieldType.KEYWORD:
        keywords = [(column, some) for column, some in pairs if isinstance(column, KeywordColumn)]
        words = StringTable.build(sorted({word for column, _ in keywords for word in column.words}))
        places = {word: place for place, word in enumerate(words)}
        codes = [_recode(column.codes[some], column.words, places) for column, some in keywords]
        return KeywordColumn(np.concatenate(codes)[order], words)
    scalars = [(column, some) for column, some in pairs if isinstance(column, ScalarColumn)]
    data = np.concatenate([column.data[some] for column, some in scalars])
    has = np.concatenate([column.has[some] for column, some in scalars])
    return ScalarColumn(kind, data[order], has[order], _merge_more(scalars, order))


def _merge_more(
    parts: Sequence[tuple[ScalarColumn, NDArray[np.int64]]], order: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    most = max([0 if column.more is None else len(column.more) for column, _ in parts])
    if not most or not len(order):
        return None
    grids = [np.zeros((most, len(rows))) for _, rows in parts]
    for grid, (column, rows) in zip(grids, parts, strict=True):
        if column.more is not None:
            grid[: len(column.more)] = column.more[:, rows]
    return np.concatenate(grids, axis=1)[:, order]


def _recode(codes: NDArray[np.int32], words: StringTable, places: Mapping[str, int]) -> NDArray[np.int32]:
    table = np.array([places[word] for word in words] + [-1], np.int32)  # the last entry keeps -1, missing
    return table[codes]
