"""Filterable fields as arrays: one column per field of a segment, and the filters over them.

A column answers one question fast: for which rows does a condition hold? `bebr.core.filters.matches` is its oracle.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bebr.core.filters import Condition, Filter, HasId, IsEmpty, Match, Range
from bebr.core.types import FieldType
from bebr.index.strings import StringTable

BoolArray = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
FindIds = Callable[[Sequence[str]], NDArray[np.int64]]


class Column(Protocol):
    """Values of one field for all rows of a segment."""

    def present(self) -> BoolArray: ...
    def match(self, values: frozenset[Any]) -> BoolArray: ...
    def arrays(self) -> Arrays: ...


class ScalarColumn:
    """integer, float and bool: data (rows,) int64, float64 or bool, has (rows,) bool."""

    def __init__(self, data: NDArray[Any], has: BoolArray) -> None:
        self.data, self.has = data, has

    def present(self) -> BoolArray:
        return self.has

    def match(self, values: frozenset[Any]) -> BoolArray:
        wanted = [value for value in values if _representable(value, self.data.dtype)]
        return self.has & np.isin(self.data, np.array(wanted, self.data.dtype))

    def range(self, condition: Range) -> BoolArray:
        keep = self.has.copy()
        data = self.data
        for bound, compare in (
            (condition.gte, np.greater_equal),
            (condition.gt, np.greater),
            (condition.lte, np.less_equal),
            (condition.lt, np.less),
        ):
            if bound is not None:
                keep &= compare(data, bound)
        return keep

    def arrays(self) -> Arrays:
        return {"data": self.data, "has": self.has}


class KeywordColumn:
    """keyword: codes (rows,) int32 into the sorted words, -1 where missing."""

    def __init__(self, codes: NDArray[np.int32], words: StringTable) -> None:
        self.codes, self.words = codes, words

    def present(self) -> BoolArray:
        return self.codes >= 0

    def match(self, values: frozenset[Any]) -> BoolArray:
        return _match_codes(self.codes, self.words, values)

    def arrays(self) -> Arrays:
        return {"codes": self.codes, "offsets": self.words.offsets, "blob": self.words.blob}


class KeywordsColumn:
    """keyword[]: codes (items,) int32 into the sorted words; row r owns items starts[r] .. starts[r + 1]."""

    def __init__(self, starts: NDArray[np.int64], codes: NDArray[np.int32], words: StringTable) -> None:
        self.starts, self.codes, self.words = starts, codes, words

    def present(self) -> BoolArray:
        return np.diff(self.starts) > 0

    def match(self, values: frozenset[Any]) -> BoolArray:
        hits = np.flatnonzero(_match_codes(self.codes, self.words, values))
        keep = np.zeros(len(self.starts) - 1, bool)
        keep[np.searchsorted(self.starts, hits, side="right") - 1] = True
        return keep

    def arrays(self) -> Arrays:
        return {"starts": self.starts, "codes": self.codes, "offsets": self.words.offsets, "blob": self.words.blob}


def build_column(kind: FieldType, values: Sequence[Any]) -> Column:
    """Values of one field, in row order and already checked (None = missing) -> Column."""
    if kind is FieldType.KEYWORD:
        words, code_of = _dictionary(value for value in values if value is not None)
        return KeywordColumn(np.array([-1 if v is None else code_of[v] for v in values], np.int32), words)
    if kind is FieldType.KEYWORDS:
        lists = [value or [] for value in values]
        words, code_of = _dictionary(word for value in lists for word in value)
        starts = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(value) for value in lists], out=starts[1:])
        return KeywordsColumn(starts, np.array([code_of[w] for v in lists for w in v], np.int32), words)
    dtype = _DTYPES[kind]
    has = np.array([value is not None for value in values], bool)
    return ScalarColumn(np.array([value if value is not None else 0 for value in values], dtype), has)


def column_from_arrays(kind: FieldType, arrays: Arrays) -> Column:
    """The inverse of `Column.arrays`."""
    if kind is FieldType.KEYWORD:
        return KeywordColumn(arrays["codes"], StringTable(arrays["offsets"], arrays["blob"]))
    if kind is FieldType.KEYWORDS:
        return KeywordsColumn(arrays["starts"], arrays["codes"], StringTable(arrays["offsets"], arrays["blob"]))
    return ScalarColumn(arrays["data"], arrays["has"])


def evaluate(node: Condition, columns: Mapping[str, Column], rows: int, find_ids: FindIds) -> BoolArray:
    """(rows,) bool: for which rows the filter holds. `find_ids` gives the rows of ids, -1 where absent."""
    match node:
        case Filter(must, should, must_not):
            keep = np.ones(rows, bool)
            for condition in must:
                keep &= evaluate(condition, columns, rows, find_ids)
            if should:
                keep &= np.logical_or.reduce([evaluate(c, columns, rows, find_ids) for c in should])
            for condition in must_not:
                keep &= ~evaluate(condition, columns, rows, find_ids)
            return keep
        case HasId(ids):
            keep = np.zeros(rows, bool)
            found = find_ids(sorted(ids))
            keep[found[found >= 0]] = True
            return keep
        case IsEmpty(key):
            return ~columns[key].present()
        case Match(key, values, negated):
            column = columns[key]
            return column.present() & ~column.match(values) if negated else column.match(values)
        case Range(key):
            column = columns[key]
            assert isinstance(column, ScalarColumn)
            return column.range(node)


def pack_mask(keep: BoolArray) -> NDArray[np.uint16]:
    """keep (rows,) bool -> (ceil(rows / 16),) uint16, bit i of entry b = row 16 b + i: the kernel's mask."""
    blocks = (len(keep) + 15) // 16
    bits = np.zeros(blocks * 2, np.uint8)
    packed = np.packbits(keep, bitorder="little")
    bits[: len(packed)] = packed
    return bits.view("<u2")


def unpack_mask(mask: NDArray[np.uint16], rows: int) -> BoolArray:
    """The inverse of `pack_mask`."""
    keep: BoolArray = np.unpackbits(mask.view(np.uint8), count=rows, bitorder="little").view(bool)
    return keep


_DTYPES: dict[FieldType, Any] = {FieldType.INTEGER: np.int64, FieldType.FLOAT: np.float64, FieldType.BOOL: np.bool_}


def _dictionary(words: Any) -> tuple[StringTable, dict[str, int]]:
    ascending = sorted(set(words))
    return StringTable.build(ascending), {word: code for code, word in enumerate(ascending)}


def _match_codes(codes: NDArray[np.int32], words: StringTable, values: frozenset[Any]) -> BoolArray:
    wanted = [code for code in map(words.find, values) if code >= 0]
    if len(wanted) == 1:
        return np.equal(codes, wanted[0])
    table = np.zeros(len(words) + 1, bool)  # the last entry represents -1, missing
    table[wanted] = True
    keep: BoolArray = table[codes]
    return keep


def _representable(value: Any, dtype: np.dtype[Any]) -> bool:
    """Integers beyond int64 match no row; comparing them would raise."""
    return dtype != np.int64 or -(2**63) <= value < 2**63
