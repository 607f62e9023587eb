"""The filter grammar and the checks of ids and metadata, by example."""

from typing import Any

import pytest

from bebr.core.auto_fields import new_fields
from bebr.core.datetimes import microseconds
from bebr.core.filters import matches, parse_filter
from bebr.core.types import FieldType, check_field, check_fields, check_id
from bebr.errors import InvalidFilter, InvalidId, InvalidMetadata

FIELDS = {
    "lang": FieldType.KEYWORD,
    "year": FieldType.INTEGER,
    "price": FieldType.FLOAT,
    "draft": FieldType.BOOL,
    "tags": FieldType.KEYWORDS,
    "at": FieldType.DATETIME,
    "sizes": FieldType.INTEGERS,
    "prices": FieldType.FLOATS,
    "flags": FieldType.BOOLS,
    "times": FieldType.DATETIMES,
    "shop.stock": FieldType.INTEGERS,
    "shop.name": FieldType.KEYWORD,
}
POINT = {"lang": "en", "year": 2020, "price": 1.5, "draft": False, "tags": ["red", "blue"], "other": 1}
NESTED = {
    "at": "2024-02-29T12:00:00.5+01:00",
    "sizes": [3, 40],
    "prices": [0.5, 7],
    "flags": [True],
    "times": ["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"],
    "shop": [{"stock": 1}, {"stock": [5, 9]}, {}],
    "shop.name": "a literal key",
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"key": "lang", "match": {"value": "en"}}, True),
        ({"key": "lang", "match": {"any": ["de", "fr"]}}, False),
        ({"key": "lang", "match": {"except": ["de"]}}, True),
        ({"key": "draft", "match": {"value": False}}, True),
        ({"key": "tags", "match": {"value": "blue"}}, True),
        ({"key": "tags", "match": {"except": ["blue"]}}, False),
        ({"key": "year", "range": {"gte": 2020, "lt": 2021}}, True),
        ({"key": "year", "range": {"gt": 2020}}, False),
        ({"key": "price", "range": {"lte": 1.5}}, True),
        ({"is_empty": {"key": "lang"}}, False),
        ({"has_id": ["a", "b"]}, True),
        ({"must_not": [{"has_id": ["a"]}]}, False),
        ({"should": [{"key": "lang", "match": {"value": "de"}}, {"key": "year", "match": {"value": 2020}}]}, True),
    ],
)
def test_conditions_mean_what_they_say(condition: dict[str, Any], expected: bool) -> None:
    assert matches(parse_filter({"must": [condition]}, FIELDS), "a", POINT) is expected


def test_a_missing_value_matches_nothing_but_is_empty() -> None:
    for condition in (
        {"key": "lang", "match": {"value": "en"}},
        {"key": "lang", "match": {"except": ["en"]}},
        {"key": "year", "range": {"lt": 9999}},
    ):
        assert not matches(parse_filter({"must": [condition]}, FIELDS), "a", {"tags": []})
    for key in FIELDS:
        assert matches(parse_filter({"must": [{"is_empty": {"key": key}}]}, FIELDS), "a", {"tags": []})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"key": "at", "match": {"value": "2024-02-29T11:00:00.500Z"}}, True),
        ({"key": "at", "match": {"any": ["2024-02-29T12:00:00.5Z"]}}, False),
        ({"key": "at", "range": {"gte": "2024-02-29T11:00:00.5Z", "lt": "2024-02-29T11:00:00.500001Z"}}, True),
        ({"key": "at", "range": {"gt": "2024-02-29T11:00:00.5Z"}}, False),
        ({"key": "sizes", "match": {"value": 40}}, True),
        ({"key": "sizes", "match": {"except": [40]}}, False),
        ({"key": "sizes", "range": {"gt": 2, "lt": 4}}, True),
        ({"key": "sizes", "range": {"gt": 3, "lt": 40}}, False),  # both hold, but of no one value
        ({"key": "prices", "range": {"lte": 0.5}}, True),
        ({"key": "flags", "match": {"value": False}}, False),
        ({"key": "times", "range": {"gte": "2024-06-01T00:00:00Z", "lt": "2025-01-01T01:00:00+01:00"}}, False),
        ({"key": "times", "range": {"gte": "2025-01-01T01:00:00+01:00"}}, True),
        ({"key": "shop.stock", "match": {"value": 9}}, True),
        ({"key": "shop.stock", "range": {"gt": 1, "lt": 6}}, True),
        ({"key": "shop.name", "match": {"value": "a literal key"}}, True),
        ({"is_empty": {"key": "shop.stock"}}, False),
    ],
)
def test_times_arrays_and_paths_mean_what_they_say(condition: dict[str, Any], expected: bool) -> None:
    check_fields(NESTED, FIELDS)
    assert matches(parse_filter({"must": [condition]}, FIELDS), "a", NESTED) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01t01:00:00+01:00", 0),
        ("1969-12-31 22:30:00-01:30", 0),
        ("2000-02-29T00:00:00-00:00", 951_782_400_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000_000),
        ("0001-01-01T00:00:00+00:01", -62_135_596_860_000_000),
        ("2023-02-29T00:00:00Z", None),
        ("1900-02-29T00:00:00Z", None),
        ("2024-04-31T00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T23:59:60Z", 1_704_153_600_000_000),
        ("2024-01-01T12:59:60Z", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01", None),
        ("2024-01-01T00:00Z", None),
        ("2024-01-01T00:00:00.Z", None),
        ("2024-01-01T00:00:00+25:00", None),
        ("2024-01-01T00:00:00+0100", None),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
        ("\u0662024-01-01T00:00:00Z", None),
        ("2024-01-01T00:00:00Z\n", None),
        ("", None),
    ],
)
def test_times_are_those_of_rfc_3339(text: str, expected: int | None) -> None:
    assert microseconds(text) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([{"a": 1}, {"a": "x"}], {"a": "integer"}),
        ([{"a": 1}, {"a": 2.5}], {"a": "float"}),
        ([{"a": 2.0}], {"a": "float"}),
        ([{"a": 2**63}], {"a": "float"}),
        ([{"a": True}, {"a": 1}], {"a": "bool"}),
        ([{"a": None}, {"a": []}, {"a": "x" * 1025}], {}),
        ([{"a": None}, {"a": ["x", 1]}], {"a": "keyword[]"}),
        ([{"a": [1, 2.5]}], {"a": "float[]"}),
        ([{"a": "2024-02-29T00:00:00Z"}], {"a": "datetime"}),
        ([{"a": "2024-02-29T00:00:00Z"}, {"a": "soon"}], {"a": "keyword"}),
        ([{"a": {"b": {"c": 1}}, "known": 1}], {"a.b.c": "integer"}),
        ([{"a": [{"b": 1}, {"b": [2]}, {}, 5]}], {"a": "integer[]", "a.b": "integer[]"}),
        ([{"": 1, "x" * 257: 1, "b": {"": 1}}], {"b.": "integer"}),
    ],
)
def test_the_type_of_what_comes_first(metadata: list[dict[str, Any]], expected: dict[str, str]) -> None:
    found = new_fields(metadata, {"known"})
    assert {key: str(kind) for key, kind in found.items()} == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "object"),
        ({"musst": []}, "musst"),
        ({"must": {}}, "list"),
        ({"must": [1]}, "condition is an object"),
        ({"must": [{"key": "title", "match": {"value": "x"}}]}, "'title' is not filterable"),
        ({"must": [{"key": "lang", "match": {"value": 3}}]}, "keyword"),
        ({"must": [{"key": "year", "match": {"value": True}}]}, "integer"),
        ({"must": [{"key": "year", "match": {"value": None}}]}, "is_empty"),
        ({"must": [{"key": "lang", "match": {"like": "x"}}]}, "any"),
        ({"must": [{"key": "lang", "range": {"gte": 1}}]}, "integer, float or datetime"),
        ({"must": [{"key": "year", "range": {"gte": "x"}}]}, "float"),
        ({"must": [{"key": "year", "range": {}}]}, "gte"),
        ({"must": [{"key": "at", "range": {"gte": 5}}]}, "RFC 3339"),
        ({"must": [{"key": "at", "match": {"value": "2024-01-01"}}]}, "RFC 3339"),
        ({"must": [{"key": "flags", "range": {"gte": 0}}]}, "integer, float or datetime"),
        ({"must": [{"key": "sizes", "match": {"value": [3]}}]}, "integer"),
        ({"must": [{"key": "year", "match": {"value": 1}, "range": {"gte": 1}}]}, "expected"),
        ({"must": [{"has_id": [7]}]}, "string"),
    ],
)
def test_a_wrong_filter_names_its_place(data: Any, message: str) -> None:
    with pytest.raises(InvalidFilter, match=message) as raised:
        parse_filter(data, FIELDS)
    assert raised.value.fields["at"].startswith("filter")


def test_filters_have_limits() -> None:
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"must": [deep]}
    with pytest.raises(InvalidFilter, match="deep"):
        parse_filter(deep, FIELDS)
    with pytest.raises(InvalidFilter, match="1000 conditions"):
        parse_filter({"must": [{"is_empty": {"key": "lang"}}] * 1001}, FIELDS)


@pytest.mark.parametrize("bad", ["", "x" * 257, "é" * 129, "a\0b", 7, 7.5, None, True, ["a"], "\ud800"])
def test_wrong_ids_are_refused(bad: object) -> None:
    with pytest.raises(InvalidId):
        check_id(bad)


@pytest.mark.parametrize("good", ["7", "x" * 256, "é" * 128, "日本", "a/b c"])
def test_ids_are_kept_as_they_are(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lang", 1), ("lang", ["en"]), ("year", "2020"), ("year", 2.5), ("year", True), ("year", 2**63),
        ("price", "1"), ("price", float("nan")), ("price", float("inf")), ("draft", 0), ("tags", "red"), ("tags", [1]),
        ("tags", ["x"] * 257), ("at", "2024-01-01"), ("at", 1_700_000_000), ("at", "yesterday"), ("sizes", 3),
        ("sizes", [3, 2.5]), ("sizes", [None]), ("flags", [1]), ("times", ["2024-01-01T00:00:00"]), ("prices", [[1.0]]),
    ],
)  # fmt: skip
def test_a_filterable_field_must_have_its_type(key: str, value: object) -> None:
    with pytest.raises(InvalidMetadata, match=key):
        check_fields({key: value}, FIELDS)


def test_null_and_missing_values_fit_every_type() -> None:
    check_fields(dict.fromkeys(FIELDS), FIELDS)
    check_fields({"unrelated": object()}, FIELDS)


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), float("nan")])
def test_numbers_beyond_float64_fit_no_float_field(number: float) -> None:
    """A column of float64 could not hold them: neither sealing nor a filter would ever work again."""
    with pytest.raises(InvalidMetadata):
        check_field("price", number, FieldType.FLOAT)
    with pytest.raises(InvalidFilter):
        parse_filter({"must": [{"key": "price", "range": {"gte": number}}]}, {"price": FieldType.FLOAT})
