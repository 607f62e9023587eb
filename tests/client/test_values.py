"""What Python can say and JSON cannot: one point fails for it, never its batch. A bare string is never its letters."""

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.client.running import running_service

from bebr import errors
from bebr.client import Client

FIT = {"bytes": 4, "sample": 1000, "dims": 8}
VECTOR = np.arange(8, dtype="f4")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_service(tmp_path_factory.mktemp("service")) as service, Client(service.url) as client:
        yield client


@pytest.fixture
def docs(client: Client) -> Iterator[str]:
    client.create_collection("docs", fit=FIT, filterable={"n": "integer"})
    yield "docs"
    client.delete_collection("docs")


ODD: dict[str, tuple[Any, str, str]] = {
    "NaN": ({"x": float("nan")}, "InvalidMetadata", "metadata.x"),
    "infinity": ({"x": [1, {"y": -float("inf")}]}, "InvalidMetadata", "metadata.x[1].y"),
    "NaN of numpy": ({"x": np.float32("nan")}, "InvalidMetadata", "metadata.x"),
    "a set": ({"x": {1}}, "InvalidMetadata", "metadata.x"),
    "a date": ({"x": datetime.datetime(2024, 1, 1)}, "InvalidMetadata", "datetime"),
    "a date of numpy": ({"x": np.datetime64("2024-01-01")}, "InvalidMetadata", "metadata.x"),
    "bytes": ({"x": b"a"}, "InvalidMetadata", "bytes"),
    "a decimal": ({"x": decimal.Decimal("1.5")}, "InvalidMetadata", "Decimal"),
    "an array": ({"x": np.ones(2)}, "InvalidMetadata", "ndarray"),
    "a number as key": ({1: "a"}, "InvalidMetadata", "key 1"),
    "a number as key inside": ({"x": [{None: "a"}]}, "InvalidMetadata", "key None"),
    "a number as key in a tuple": ({"x": ({2: "a"},)}, "InvalidMetadata", "key 2"),
    "half a surrogate": ({"x": "\ud800"}, "Malformed", "surrogate"),
    "a list": ([1], "InvalidMetadata", "object"),
    "the wrong type": ({"n": "1"}, "InvalidMetadata", "integer"),
}
SOUND = {"n": np.int64(7), "f": np.float32(0.5), "b": np.bool_(True), "t": (1, 2), "s": np.str_("a")}


def test_metadata_that_json_cannot_say_fails_its_point_alone(client: Client, docs: str):
    points = [{"id": name, "vector": VECTOR, "metadata": value} for name, (value, _, _) in ODD.items()]
    points.insert(3, {"id": "sound", "vector": VECTOR, "metadata": SOUND})
    reports = [
        client.upsert(docs, points, batch_points=4),
        client.upsert_vectors(docs, [p["id"] for p in points], [VECTOR] * len(points), [p["metadata"] for p in points]),
    ]
    job = client.ingest(docs, points)
    lines = client.job_errors(job.id)
    assert (job.applied, job.rejected) == (1, len(ODD)) and len(lines) == 2
    streamed = [(item.index, item.id, item.error) for item in job.unsent]
    streamed += [(line["line"] - 1, line["id"], line["error"]) for line in lines]
    expected = [(i, p["id"], ODD[p["id"]][1]) for i, p in enumerate(points) if p["id"] != "sound"]
    assert sorted(streamed) == expected
    for report in reports:
        assert (report.applied, report.rejected) == (1, len(ODD))
        assert [(item.index, item.id, item.error) for item in report.items] == expected
        assert all(ODD[item.id][2] in item.detail for item in report.items), report.items
    assert client.get_point(docs, "sound").metadata == {"n": 7, "f": 0.5, "b": True, "t": [1, 2], "s": "a"}
    assert client.count(docs) == 1


def test_changes_of_metadata_are_what_json_can_say(client: Client, docs: str):
    client.upsert(docs, [{"id": "a", "vector": VECTOR, "metadata": {"1": "kept"}}])
    for changes in ({1: "a"}, {"x": {2: 1}}, {"x": float("nan")}, {"x": {1}}):
        with pytest.raises(errors.InvalidRequest):
            client.set_metadata(docs, changes, ["a"])
    assert client.get_point(docs, "a").metadata == {"1": "kept"}


def test_vectors_that_are_none_fail_their_point_alone(client: Client, docs: str):
    nan = VECTOR.copy()
    nan[3] = np.nan
    odd: list[tuple[Any, str]] = [
        (nan, "InvalidVector"),
        (VECTOR[:7], "DimensionMismatch"),
        (VECTOR[None], "InvalidVector"),
        (["1"] * 8, "InvalidVector"),
        ([None] + [1.0] * 7, "InvalidVector"),
        (np.ones(8, complex), "InvalidVector"),
        (np.ones(8, bool), "InvalidVector"),
        (np.ma.masked_less(VECTOR, 2), "InvalidVector"),
        ("vector", "InvalidVector"),
        (np.full(8, 1e300), "InvalidVector"),
        (np.zeros(8), "InvalidVector"),
    ]
    points = [{"id": str(i), "vector": vector} for i, (vector, _) in enumerate(odd)]
    sound = [np.arange(8), np.arange(16)[::2], np.arange(8, dtype=">f8"), [1] * 8, np.arange(8, dtype="f2")]
    points += [{"id": f"sound {i}", "vector": vector} for i, vector in enumerate(sound)]
    report = client.upsert(docs, [*points, "point", None, {"id": "two", "vector": VECTOR, "vector_b64": "AAAA"}])
    expected = [error for _, error in odd] + ["InvalidOption"] * 3
    assert [item.error for item in report.items] == expected and report.applied == len(sound)
    rows = np.stack([VECTOR, nan, VECTOR]).astype("f8")[:, ::-1]
    report = client.upsert_vectors(docs, ["a", "b", "c"], rows)
    assert [(item.index, item.error) for item in report.items] == [(1, "InvalidVector")] and report.applied == 2
    assert client.upsert_vectors(docs, np.array(["d", "e"]), np.ones((2, 8), int)).applied == 2
    report = client.upsert_vectors(docs, [b"f", np.int64(7), "g"], np.ones((3, 8)))
    assert [(item.index, item.error) for item in report.items] == [(0, "InvalidId"), (1, "InvalidId")]


@pytest.mark.parametrize("name", [".", "..", "...", "a/..", "%2e", "a b", "?", "#", "é", " ", "a%0A", "a//b"])
def test_any_id_is_found_by_its_path(client: Client, docs: str, name: str):
    client.upsert(docs, [{"id": name, "vector": VECTOR}])
    assert client.get_point(docs, name).id == name


def test_what_is_no_name_reaches_no_route(client: Client, docs: str):
    for value in ("", None, 7, b"a"):
        with pytest.raises(errors.InvalidId):
            client.get_point(docs, value)
        with pytest.raises(errors.InvalidOption):
            client.delete_collection(value)
    for call in (client.delete_collection, client.get_job, lambda name: client.retire_version(docs, name)):
        for value in (".", ".."):
            with pytest.raises((errors.NotFound, errors.InvalidRequest)):
                call(value)
    assert client.count(docs) == 0


def test_a_bare_string_is_never_read_as_its_letters(client: Client, docs: str):
    client.upsert(docs, [{"id": name, "vector": VECTOR} for name in ("a", "b", "c", "abc")])
    rows = np.ones((3, 8))
    calls: list[Any] = [
        lambda ids: client.delete(docs, ids),
        lambda ids: client.delete(docs, ids, dry_run=True),
        lambda ids: client.get(docs, ids),
        lambda ids: client.set_metadata(docs, {"n": 1}, ids),
        lambda ids: client.upsert_vectors(docs, ids, rows),
        lambda ids: client.backfill_vectors(docs, "raw", ids, rows),
        lambda ids: client.get(docs, ["a"], with_metadata=ids),
        lambda ids: client.scroll_page(docs, with_metadata=ids),
        lambda ids: client.search(docs, id="a", with_metadata=ids),
        lambda ids: client.search_batch(docs, [{"id": "a", "with_metadata": ids}]),
        lambda ids: client.search_batch(docs, ids),
        lambda ids: client.embed(ids),
        lambda ids: client.upsert(docs, ids),
        lambda ids: client.ingest(docs, ids),
        lambda ids: client.evaluate_version(docs, queries=ids),
        lambda ids: client.update_aliases(ids),
        lambda ids: client.search(docs, id="a", filter={"must": [{"has_id": ids}]}),
    ]
    for call in calls:
        for ids in ("abc", b"abc", {"a": 1, "b": 2, "c": 3}):
            with pytest.raises(errors.InvalidRequest):
                call(ids)
    assert client.count(docs) == 4
    with pytest.raises(errors.InvalidOption, match=r"ids: expected a list such as \['a'\], got 'abc'"):
        client.delete(docs, "abc")
    assert client.delete(docs, ("abc",)) == 1 and client.delete(docs, (name for name in "ab")) == 2
    assert client.delete(docs, []) == 0 and client.count(docs) == 1
