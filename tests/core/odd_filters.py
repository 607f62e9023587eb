"""Random filters and metadata of odd values, for tests that hold fast evaluations to `bebr.core.filters.matches`."""

from typing import Any

import numpy as np

from bebr.core.types import FieldType

FIELDS = {
    "word": FieldType.KEYWORD,
    "whole": FieldType.INTEGER,
    "real": FieldType.FLOAT,
    "flag": FieldType.BOOL,
    "words": FieldType.KEYWORDS,
    "at": FieldType.DATETIME,
    "wholes": FieldType.INTEGERS,
    "reals": FieldType.FLOATS,
    "flags": FieldType.BOOLS,
    "times": FieldType.DATETIMES,
    "in.side": FieldType.FLOATS,
}
WHOLE = [0, 1, -1, 2, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62 + 1, 2**63 - 2, 2**63 - 1, -(2**63)]
REAL = [
    0, 0.0, -0.0, 1, 0.1, -0.5, 5e-324, 2.2250738585072014e-308, 1e308, -1.7976931348623157e308, 2.0**53, 2**53 + 1,
    -(2**53) - 1, 2**63, 2**63 + 1, 2**64 - 1, 10**20 + 1, 10**20, 1e20, 10**300 + 7, 10**300, 1e300, 3.0, 2**107 + 1,
]  # fmt: skip
WORDS = ["", "a", "A", "b", "é", "e\u0301", "日本", "😀", "x" * 1024, "a\0", "0", "true", " ", "a b", "\ufeff"]
TIMES = [
    "1970-01-01T00:00:00Z", "1970-01-01T01:00:00+01:00", "1969-12-31T23:59:59.999999Z", "2024-02-29T12:00:00.5Z",
    "2024-02-29t13:00:00.50+01:00", "2024-02-29 12:00:00.500000Z", "2024-02-29T12:00:00.500001z",
    "2000-02-29T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2016-12-31T23:59:60Z",
    "2017-01-01T00:00:00Z", "2017-01-01T00:59:60.25+01:00",
]  # fmt: skip
BOUNDS = [*WHOLE, *REAL, 2.0**63, -(2.0**63), 1.5, 2**53 + 0.0, 9007199254740994.0, 2**70, -(10**30)]


def random_metadata(rng: np.random.Generator) -> dict[str, Any]:
    """Each field has a value, is null or is missing."""
    values: dict[str, Any] = {
        "word": pick(rng, WORDS),
        "whole": pick(rng, [*WHOLE, int(rng.integers(-5, 5))]),
        "real": pick(rng, [*REAL, float(rng.normal())]),
        "flag": bool(rng.random() < 0.5),
        "words": [pick(rng, WORDS) for _ in range(int(rng.integers(0, 4)))],
        "at": pick(rng, TIMES),
        "wholes": [pick(rng, WHOLE) for _ in range(int(rng.integers(0, 4)))],
        "reals": [pick(rng, REAL) for _ in range(int(rng.integers(0, 4)))],
        "flags": [bool(rng.random() < 0.5) for _ in range(int(rng.integers(0, 4)))],
        "times": [pick(rng, TIMES) for _ in range(int(rng.integers(0, 4)))],
        "in": [{"side": pick(rng, REAL)} for _ in range(int(rng.integers(0, 4)))],
    }
    fates = {key: rng.random() for key in values}
    return {key: value if fates[key] < 0.8 else None for key, value in values.items() if fates[key] < 0.9}


def random_filter(rng: np.random.Generator, ids: list[str], depth: int = 2) -> dict[str, Any]:
    parts = ("must", "should", "must_not")
    counts = rng.choice([0, 0, 1, 1, 2, 3], 3)
    return {
        part: [random_condition(rng, ids, depth) for _ in range(count)]
        for part, count in zip(parts, counts.tolist(), strict=True)
        if count or rng.random() < 0.3
    }


def random_condition(rng: np.random.Generator, ids: list[str], depth: int) -> dict[str, Any]:
    match int(rng.integers(8)):
        case 0 | 1 | 2:
            return {"key": (key := pick(rng, list(FIELDS))), "match": random_match(rng, key)}
        case 3 | 4 | 5:
            names = rng.choice(["gte", "gt", "lte", "lt"], int(rng.integers(1, 3)), replace=False).tolist()
            key = pick(rng, [name for name, kind in FIELDS.items() if kind.has_range])
            pool = TIMES if key in ("at", "times") else BOUNDS
            return {"key": key, "range": {name: pick(rng, pool) for name in names}}
        case 6 if depth:
            nested = random_filter(rng, ids, depth - 1)
            return nested or {"must": []}
        case 6:
            return {"is_empty": {"key": pick(rng, list(FIELDS))}}
        case _:
            return {"has_id": [pick(rng, [*ids, "absent"]) for _ in range(int(rng.integers(0, 5)))]}


def random_match(rng: np.random.Generator, key: str) -> dict[str, Any]:
    pool: list[Any] = {
        FieldType.KEYWORD: WORDS, FieldType.INTEGER: WHOLE, FieldType.FLOAT: BOUNDS, FieldType.BOOL: [True, False],
        FieldType.DATETIME: TIMES,
    }[FIELDS[key].element]  # fmt: skip
    if rng.random() < 0.4:
        return {"value": pick(rng, pool)}
    many = [pick(rng, pool) for _ in range(int(rng.choice([0, 1, 2, 4, 60])))]
    return {str(rng.choice(["any", "except"])): many}


def pick(rng: np.random.Generator, values: list[Any]) -> Any:
    """One of the values as it is; numpy's choice would turn them into its own types."""
    return values[int(rng.integers(len(values)))]
