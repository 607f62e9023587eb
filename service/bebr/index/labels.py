"""Labels: the values of a field in one part, numbered, and which of them each row has. Hits are grouped by them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.index.columns import ArrayColumn, Column, KeywordColumn, ScalarColumn
from bebr.index.strings import StringTable

Value = str | int | float | bool
FEW_WORDS = 1000
"""Fewer are read one after the other rather than searched for."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Label n is the n-th value."""

    codes: NDArray[np.int32]
    """(items,): the label of each item, -1 where the field is missing."""
    starts: NDArray[np.int64] | None
    """(rows + 1,): row r owns the items starts[r] .. starts[r + 1]; None: items are rows."""
    values: Sequence[Any] | NDArray[Any]
    """(labels,): the values."""
    find: Callable[[Any], int]
    """Value -> label, -1 where no row has it."""

    def value(self, label: int) -> Value:
        """The value of a label, equal in all parts that have it."""
        value = self.values[label]
        return value.item() if isinstance(value, np.generic) else value  # type: ignore[no-any-return]

    def only(self, values: Sequence[Value]) -> "Labels":
        """The labels of these values, in their order."""
        table = np.full(len(self.values) + 1, -1, np.int32)  # the last entry represents -1, missing
        if isinstance(self.values, StringTable) and len(self.values) < FEW_WORDS:
            label_of = {value: label for label, value in enumerate(values)}
            table[:-1] = [label_of.get(word, -1) for word in self.values]
        else:
            for label, value in enumerate(values):
                if (here := self.find(value)) >= 0:
                    table[here] = label
        return Labels(table[self.codes], self.starts, values, self.find)


def labels_of_column(column: Column) -> Labels:
    """Words are numbered already; other values are sorted, which takes a moment and 4 bytes a row."""
    match column:
        case KeywordColumn(codes=codes, words=words):
            return Labels(codes, None, words, words.find)
        case ArrayColumn(starts=starts, items=items):
            return replace(labels_of_column(items), starts=starts)
        case ScalarColumn(data=data, has=has, more=None):
            values, inverse = np.unique(data[has], return_inverse=True)
            codes = np.full(len(data), -1, np.int32)
            codes[has] = inverse
            return Labels(codes, None, values, _Finder(values))
        case ScalarColumn():
            rows = enumerate(column.has.tolist())
            return labels_of_values([column.value_at(row) if is_there else None for row, is_there in rows])
    raise TypeError(f"no labels of {type(column).__name__}")


def labels_of_values(values: Sequence[Any]) -> Labels:
    """values: of one field, row by row, lists for arrays; None: missing."""
    label_of: dict[Any, int] = {}
    lists = [list(dict.fromkeys(value)) if isinstance(value, list) else value for value in values]
    if not any(isinstance(value, list) for value in lists):
        codes = [-1 if value is None else label_of.setdefault(value, len(label_of)) for value in lists]
        return Labels(np.array(codes, np.int32), None, list(label_of), _get(label_of))
    codes = [label_of.setdefault(item, len(label_of)) for value in lists for item in value or ()]
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(value or ()) for value in lists], out=starts[1:])
    return Labels(np.array(codes, np.int32), starts, list(label_of), _get(label_of))


def _get(label_of: dict[Any, int]) -> Callable[[Any], int]:
    return lambda value: label_of.get(value, -1)


class _Finder:
    """Finds values among ascending ones."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def __call__(self, value: Any) -> int:
        label = int(np.searchsorted(self._values, value))
        return label if label < len(self._values) and self._values[label] == value else -1
