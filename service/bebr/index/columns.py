"""Filterable fields as arrays: one column per field of a segment, and the filters over them.

A column answers one question fast: for which rows does a condition hold? `bebr.core.filters.matches` is its oracle.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bebr.core.filters import Condition, Filter, HasId, IsEmpty, Match, Range
from bebr.core.numbers import float_terms
from bebr.core.types import INT64_MAX, INT64_MIN, FieldType
from bebr.errors import Conflict
from bebr.index.strings import StringTable

BoolArray = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
Held = TypeVar("Held")
FindIds = Callable[[frozenset[str]], NDArray[np.int64]]


class Column(Protocol):
    """Values of one field for all rows of a segment."""

    kind: FieldType
    """Type of the field."""

    def present(self) -> BoolArray: ...
    def match(self, values: frozenset[Any]) -> BoolArray: ...
    def arrays(self) -> Arrays: ...


class ScalarColumn:
    """integer, float, bool and datetime (microseconds): data (rows,) int64, float64 or bool, has (rows,) bool.

    more (terms, rows) float64: what is left of integers in a float field that float64 cannot hold, see
    `bebr.core.numbers`. None where there is none, which is nearly always.
    """

    def __init__(
        self, kind: FieldType, data: NDArray[Any], has: BoolArray, more: NDArray[np.float64] | None = None
    ) -> None:
        self.kind, self.data, self.has, self.more = kind, data, has, more

    def present(self) -> BoolArray:
        return self.has

    def match(self, values: frozenset[Any]) -> BoolArray:
        if self.data.dtype == np.float64:
            return self.has & self._is_any_float(values)
        wanted = [int(value) for value in values if INT64_MIN <= value <= INT64_MAX and value == int(value)]
        return self.has & np.isin(self.data, np.array(wanted, self.data.dtype))

    def range(self, condition: Range) -> BoolArray:
        keep = self.has.copy()
        for bound, is_upper, is_strict in (
            (condition.gte, False, False),
            (condition.gt, False, True),
            (condition.lte, True, False),
            (condition.lt, True, True),
        ):
            if bound is not None:
                keep &= self._beyond(bound, is_upper=is_upper, is_strict=is_strict)
        return keep

    def arrays(self) -> Arrays:
        arrays = {"data": self.data, "has": self.has}
        return arrays if self.more is None else arrays | {"more": self.more.ravel()}

    def value_at(self, row: int) -> bool | int | float:
        """The very value, wherever it came from."""
        value: bool | int | float = self.data[row].item()
        rest = [] if self.more is None else self.more[:, row].tolist()
        return sum(map(int, rest), int(value)) if any(rest) else value

    def _beyond(self, bound: float, *, is_upper: bool, is_strict: bool) -> BoolArray:
        """Rows above the bound, or below it where it is an upper one; equal ones too unless it is strict."""
        if self.data.dtype == np.int64:
            return _beyond_integers(self.data, bound, is_upper=is_upper, is_strict=is_strict)
        terms, more = float_terms(bound), () if self.more is None else self.more
        is_nearer, equal = np.zeros(len(self.data), bool), np.ones(len(self.data), bool)
        for values, term in zip_longest((self.data, *more), terms, fillvalue=0.0):
            is_nearer |= equal & (np.less(values, term) if is_upper else np.greater(values, term))
            equal &= np.equal(values, term)
        return is_nearer if is_strict else is_nearer | equal

    def _is_any_float(self, values: frozenset[Any]) -> BoolArray:
        by_terms = [float_terms(value) for value in values]
        if self.more is None:
            return np.isin(self.data, [terms[0] for terms in by_terms if len(terms) == 1])
        wanted = np.zeros((len(by_terms), max([len(self.more) + 1, *map(len, by_terms)])))
        for row, terms in zip(wanted, by_terms, strict=True):
            row[: len(terms)] = terms
        held = np.zeros((len(self.data), wanted.shape[1]))
        held[:, 0], held[:, 1 : len(self.more) + 1] = self.data, self.more.T
        return np.isin(_as_bytes(held), _as_bytes(wanted))


class KeywordColumn:
    """keyword: codes (rows,) int32 into the sorted words, -1 where missing."""

    kind = FieldType.KEYWORD

    def __init__(self, codes: NDArray[np.int32], words: StringTable) -> None:
        self.codes, self.words = codes, words

    def present(self) -> BoolArray:
        return self.codes >= 0

    def match(self, values: frozenset[Any]) -> BoolArray:
        return _match_codes(self.codes, self.words, values)

    def arrays(self) -> Arrays:
        return {"codes": self.codes, "offsets": self.words.offsets, "blob": self.words.blob}


class ArrayColumn:
    """Arrays: a column of all items; row r owns items starts[r] .. starts[r + 1]."""

    def __init__(self, kind: FieldType, starts: NDArray[np.int64], items: ScalarColumn | KeywordColumn) -> None:
        self.kind, self.starts, self.items = kind, starts, items

    def present(self) -> BoolArray:
        return np.diff(self.starts) > 0

    def match(self, values: frozenset[Any]) -> BoolArray:
        return self._with_any(self.items.match(values))

    def range(self, condition: Range) -> BoolArray:
        assert isinstance(self.items, ScalarColumn)
        return self._with_any(self.items.range(condition))

    def arrays(self) -> Arrays:
        return {"starts": self.starts, **self.items.arrays()}

    def _with_any(self, items: BoolArray) -> BoolArray:
        """(rows,): which rows own one of these items."""
        keep = np.zeros(len(self.starts) - 1, bool)
        keep[np.searchsorted(self.starts, np.flatnonzero(items), side="right") - 1] = True
        return keep


def build_column(kind: FieldType, values: Sequence[Any]) -> Column:
    """Values of one field, in row order and as `column_value` makes them (None = missing) -> Column."""
    if not kind.is_array:
        return _build_scalars(kind, values)
    lists = [dict.fromkeys(value) if value else () for value in values]
    starts = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(value) for value in lists], out=starts[1:])
    return ArrayColumn(kind, starts, _build_scalars(kind.element, [item for value in lists for item in value]))


def _build_scalars(kind: FieldType, values: Sequence[Any]) -> ScalarColumn | KeywordColumn:
    if kind is FieldType.KEYWORD:
        words, code_of = _dictionary(value for value in values if value is not None)
        return KeywordColumn(np.array([-1 if v is None else code_of[v] for v in values], np.int32), words)
    has = np.array([value is not None for value in values], bool)
    more = _more_terms(values) if kind is FieldType.FLOAT else None
    data = np.array([value if value is not None else 0 for value in values], _DTYPES[kind])
    return ScalarColumn(kind, data, has, more)


def column_from_arrays(kind: FieldType, arrays: Arrays) -> Column:
    """The inverse of `Column.arrays`."""
    if kind.is_array:
        return ArrayColumn(kind, arrays["starts"], _scalars_from_arrays(kind.element, arrays))
    return _scalars_from_arrays(kind, arrays)


def _scalars_from_arrays(kind: FieldType, arrays: Arrays) -> ScalarColumn | KeywordColumn:
    if kind is FieldType.KEYWORD:
        return KeywordColumn(arrays["codes"], StringTable(arrays["offsets"], arrays["blob"]))
    data, more = arrays["data"], arrays.get("more")
    return ScalarColumn(kind, data, arrays["has"], None if more is None else more.reshape(-1, len(data)))


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
            found = find_ids(ids)
            keep[found[found >= 0]] = True
            return keep
        case IsEmpty():
            return ~_column_of(node, columns).present()
        case Match(values=values, negated=negated):
            column = _column_of(node, columns)
            return column.present() & ~column.match(values) if negated else column.match(values)
        case Range():
            ordered = _column_of(node, columns)
            assert isinstance(ordered, ScalarColumn | ArrayColumn)
            return ordered.range(node)


def _column_of(node: IsEmpty | Match | Range, columns: Mapping[str, Column]) -> Column:
    column = column_named(node.key, columns)
    if column.kind is not node.kind:
        raise _changed(node.key)
    return column


def column_named(key: str, columns: Mapping[str, Held]) -> Held:
    """Raises Conflict where there is none: a request was read before its field was dropped."""
    if key not in columns:
        raise _changed(key)
    return columns[key]


def _changed(key: str) -> Conflict:
    return Conflict(
        f"field '{key}' was changed while the request ran; read the description of the collection, then try again",
        key=key,
    )


def items_of(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the items of `rows`, row after row: row r owns starts[r] .. starts[r + 1]."""
    counts = np.diff(starts)[rows]
    shift = np.repeat(starts[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return np.arange(int(counts.sum()), dtype=np.int64) + shift.astype(np.int64)


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


_DTYPES: dict[FieldType, Any] = {
    FieldType.INTEGER: np.int64,
    FieldType.FLOAT: np.float64,
    FieldType.BOOL: np.bool_,
    FieldType.DATETIME: np.int64,
}


def _dictionary(words: Any) -> tuple[StringTable, dict[str, int]]:
    ascending = sorted(set(words))
    return StringTable.build(ascending), {word: code for code, word in enumerate(ascending)}


def _match_codes(codes: NDArray[np.int32], words: StringTable, values: frozenset[Any]) -> BoolArray:
    wanted = words.find_any(values)
    if len(wanted) == 1:
        return np.equal(codes, wanted[0])
    table = np.zeros(len(words) + 1, bool)  # the last entry represents -1, missing
    table[wanted] = True
    keep: BoolArray = table[codes]
    return keep


def _more_terms(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """(terms, rows) float64: all terms of the values but the first."""
    rest = {row: float_terms(value)[1:] for row, value in enumerate(values) if type(value) is int}
    most = max(map(len, rest.values()), default=0)
    if not most:
        return None
    more = np.zeros((most, len(values)))
    for row, terms in rest.items():
        more[: len(terms), row] = terms
    return more


def _beyond_integers(data: NDArray[np.int64], bound: float, *, is_upper: bool, is_strict: bool) -> BoolArray:
    """As `ScalarColumn._beyond`: a bound that is no integer, or beyond them, is replaced by the next one that is."""
    whole = math.floor(bound) if is_upper else math.ceil(bound)
    if is_strict and whole == bound:
        whole += -1 if is_upper else 1
    if not INT64_MIN <= whole <= INT64_MAX:
        return np.full(len(data), (whole > 0) == is_upper)
    return np.less_equal(data, whole) if is_upper else np.greater_equal(data, whole)


def _as_bytes(rows: NDArray[np.float64]) -> NDArray[np.bytes_]:
    """(rows, terms) -> (rows,) of fixed width, equal where all terms are equal."""
    return np.ascontiguousarray(rows + 0.0).view(f"S{8 * rows.shape[1]}").ravel()  # + 0: -0 equals 0
