"""One list of odd inputs through every door: the same stored point, or the same class of error, from each of them."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.client.running import running_service, tiny_text_bundle
from tests.encoding.importing.checkpoints import DIMS
from tests.faults.doors import JSON, NDJSON, Doors, Errors
from tests.faults.odd_points import FIELDS, ODD, SKIPPED, VECTOR, Odd, V
from tests.waiting import PATIENCE_SECONDS

import bebr
from bebr.client import Client, bulk


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    bundles = tmp_path_factory.mktemp("bundles")
    tiny_text_bundle(bundles, tmp_path_factory.mktemp("checkpoint"))
    with running_service(tmp_path_factory.mktemp("service"), bundles_dir=bundles) as service:
        yield service.url


@pytest.fixture
def doors(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Doors]:
    monkeypatch.setenv("BEBR_URL", url)
    monkeypatch.setattr(bulk, "FIRST_POLL_SECONDS", 0.005)
    with Client(url) as client, httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as http:
        yield Doors(client, http, tmp_path, monkeypatch, capsys)


@pytest.fixture
def collection(doors: Doors, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"c{zlib.crc32(request.node.nodeid.encode())}"
    doors.client.create_collection(name, bundle="minilm@1", filterable=FIELDS, text_field="text", shards=1)
    yield name
    doors.client.delete_collection(name)


def stored(doors: Doors, collection: str) -> dict[str, Any]:
    return {point.id: point.metadata for point in doors.client.scroll(collection)}


def check(doors: Doors, collection: str, sent: list[Odd], errors: Errors) -> None:
    """Every point has its error, or is stored with its metadata."""
    expected = {position: odd.expected for position, odd in enumerate(sent)}
    assert errors == {position: error for position, error in expected.items() if isinstance(error, str)}
    points = {odd.value["id"]: odd.expected for odd in sent if isinstance(odd.expected, dict)}
    found = stored(doors, collection)
    assert found.keys() == points.keys()
    for point_id, value in points.items():
        assert json.dumps(found[point_id]) == json.dumps(value), point_id


def test_there_are_enough_odd_inputs() -> None:
    assert len(ODD) >= 60


def test_points_in_one_json_body(doors: Doors, collection: str) -> None:
    check(doors, collection, ODD, doors.json(collection, [odd.raw for odd in ODD]))


def test_points_as_lines(doors: Doors, collection: str) -> None:
    check(doors, collection, ODD, doors.ndjson(collection, [odd.raw for odd in ODD]))


def test_points_of_a_bulk_body(doors: Doors, collection: str) -> None:
    errors = doors.ingest(collection, b"\n".join(odd.raw for odd in ODD))
    check(doors, collection, ODD, {line - 1: error for line, error in errors})


@pytest.mark.parametrize("name", ["points.jsonl", "-", "POINTS.NDJSON.GZ"])
def test_points_of_a_file_or_stdin(doors: Doors, collection: str, name: str) -> None:
    body = b"\n".join(odd.raw for odd in ODD)
    errors = doors.command(collection, gzip.compress(body) if "GZ" in name else body, name)
    check(doors, collection, ODD, {line - 1: error for line, error in errors})


def test_points_of_the_client(doors: Doors, collection: str) -> None:
    sent = [odd for odd in ODD if odd.value is not SKIPPED]
    check(doors, collection, sent, doors.upsert(collection, [odd.value for odd in sent]))


async def test_points_of_the_asynchronous_client(doors: Doors, collection: str, url: str) -> None:
    sent = [odd for odd in ODD if odd.value is not SKIPPED]
    async with bebr.AsyncClient(url) as client:
        report = await client.upsert(collection, [odd.value for odd in sent])
    check(doors, collection, sent, {item.index: item.error for item in report.items})


def test_points_that_the_client_streams(doors: Doors, collection: str) -> None:
    sent = [odd for odd in ODD if odd.value is not SKIPPED]
    job = doors.client.ingest(collection, [odd.value for odd in sent])
    errors = {error["line"] - 1: error["error"] for error in doors.client.job_errors(job.id)}
    unsent = {item.index: item.error for item in job.unsent}
    assert not errors.keys() & unsent.keys() and job.rejected == len(errors) + len(unsent)
    check(doors, collection, sent, errors | unsent)


def test_vectors_in_frames(doors: Doors, collection: str) -> None:
    def framed(odd: Odd) -> bool:
        value = odd.value
        return (
            isinstance(value, dict) and value.keys() <= {"id", "vector", "metadata"} and value.get("vector") == VECTOR
        )

    sent = [odd for odd in ODD if framed(odd) and "id" in odd.value]
    assert len(sent) > 60
    sound = [odd for odd in sent if odd.expected != "Malformed"]
    check(doors, collection, sound, doors.frame(collection, [odd.value for odd in sound]))
    for odd in sent:
        if odd.expected == "Malformed":  # a header that is no JSON fails its whole frame
            assert doors.frame(collection, [odd.value]) == {0: "Malformed"}


def test_vectors_of_the_client(doors: Doors, collection: str) -> None:
    sent = [
        odd for odd in ODD if isinstance(odd.value, dict) and odd.value.get("vector") == VECTOR and "id" in odd.value
    ]
    sent = [odd for odd in sent if odd.value.keys() <= {"id", "vector", "metadata"}]
    report = doors.client.upsert_vectors(
        collection,
        [odd.value["id"] for odd in sent],
        [odd.value["vector"] for odd in sent],
        [odd.value.get("metadata") for odd in sent],
    )
    check(doors, collection, sent, {item.index: item.error for item in report.items})


def plain(body: bytes) -> bytes:
    return body


WRAPPED: dict[str, tuple[Callable[[bytes], bytes], str | None]] = {
    "plain": (plain, None),
    "byte order mark": (lambda body: b"\xef\xbb\xbf" + body, None),
    "gzip": (gzip.compress, None),
    "byte order mark in gzip": (lambda body: gzip.compress(b"\xef\xbb\xbf" + body), None),
    "gzip in members": (lambda body: gzip.compress(body[:40]) + gzip.compress(b"") + gzip.compress(body[40:]), None),
    "gzip in a full block": (lambda body: gzip.compress(body) + bytes(512), None),
    "stored gzip": (lambda body: gzip.compress(body, 0), None),
    "two byte order marks": (lambda body: b"\xef\xbb\xbf" * 2 + body, "Malformed"),
    "gzip cut short": (lambda body: gzip.compress(body)[:-9], "Malformed"),
    "gzip without an end": (lambda body: gzip.compress(body)[:-1], "Malformed"),
    "gzip with a wrong checksum": (lambda body: gzip.compress(body)[:-8] + bytes(8), "Malformed"),
    "gzip and more": (lambda body: gzip.compress(body) + b"more", "Malformed"),
    "gzip in gzip": (lambda body: gzip.compress(gzip.compress(body)), "Malformed"),
    "zip": (lambda body: b"PK\x03\x04" + body, "Malformed"),
    "zstd": (lambda body: b"\x28\xb5\x2f\xfd" + body, "Malformed"),
    "xz": (lambda body: b"\xfd7zXZ\0" + body, "Malformed"),
    "bzip2": (lambda body: b"BZh91AY&SY" + body, "Malformed"),
    "zlib": (zlib.compress, "Malformed"),
    "Parquet": (lambda body: b"PAR1\x15" + body, "Malformed"),
    "UTF-16": (lambda body: body.decode().encode("utf-16"), "Malformed"),
    "UTF-16 without a mark": (lambda body: body.decode().encode("utf-16-be"), "Malformed"),
    "UTF-32": (lambda body: body.decode().encode("utf-32"), "Malformed"),
}
NO_FORMAT = ("two byte order marks", "zlib")
"""What no door knows by name: of lines, the first ones are wrong, and others may be right."""


@pytest.mark.parametrize("name", WRAPPED)
def test_what_a_body_is_wrapped_in(doors: Doors, collection: str, name: str) -> None:
    wrap, expected = WRAPPED[name]

    def good(door: str) -> list[bytes]:
        return [f'{{"id":"{door} {n}",{V},"metadata":{{"x":"é"}}}}'.encode() for n in range(3)]

    def lines(door: str) -> bytes:
        return wrap(b"\n".join(good(door)))

    path = f"/v1/collections/{collection}/points"
    answers = {
        "json": doors.http.post(path, content=wrap(b'{"points":[' + b",".join(good("json")) + b"]}"), headers=JSON),
        "ndjson": doors.http.post(path, content=lines("ndjson"), headers=NDJSON),
    }
    jobs = {
        "ingest": doors.ingest(collection, lines("ingest")),
        "ingest_file": doors.ingest_file(collection, lines("ingest_file")),
        "file": doors.command(collection, lines("file")),
        "stdin": doors.command(collection, lines("stdin"), "-"),
    }
    if name in NO_FORMAT:
        assert answers["json"].json()["error"] == "Malformed"
        assert answers["ndjson"].json()["items"][0]["error"] == "Malformed"
        assert all(errors[0] == (1, "Malformed") for errors in jobs.values()), jobs
        return
    found = {
        door: [] if answer.status_code == 200 else [(0, answer.json()["error"])] for door, answer in answers.items()
    } | jobs
    assert found == {door: [] if expected is None else [(0, expected)] for door in found}
    if expected is None:
        assert stored(doors, collection) == {f"{door} {n}": {"x": "é"} for door in found for n in range(3)}
    else:
        assert not stored(doors, collection) or "gzip" in name  # lines before the damage are good ones


A, B = (f'{{"id":"DOOR {name}",{V}}}'.encode() for name in "ab")
LINES: dict[str, tuple[bytes, list[int], int]] = {
    "LF": (A + b"\n" + B, [], 2),
    "LF at the end": (A + b"\n" + B + b"\n", [], 2),
    "CRLF": (A + b"\r\n" + B + b"\r\n", [], 2),
    "CR": (A + b"\r" + B, [], 2),
    "mixed ends": (A + b"\r\r\n" + B + b"\n\r", [], 2),
    "blank lines": (b"\n \t\n" + A + b"\n\n\r\n" + B + b"\n\n", [], 2),
    "no separator": (A + b"\x0b" + B, [1], 0),
    "NEL is no end": (A + b"\n" + B + "\x85".encode(), [2], 1),
    "nothing": (b"", [], 0),
    "only blank lines": (b"\n\n \n", [], 0),
    "only a byte order mark": (b"\xef\xbb\xbf", [], 0),
    "a byte order mark later": (A + b"\n\xef\xbb\xbf" + B, [2], 1),
    "a bad line between": (A + b"\n{nope\n" + B + b"\n", [2], 2),
    "latin-1 between": (A + b'\n{"id":"caf\xe9"}\n' + B, [2], 2),
    "NUL between": (A + b"\n\0\n" + B, [2], 2),
    "an array of points": (b"[" + A + b"," + B + b"]", [1], 0),
    "JSON over several lines": (A.replace(b",", b",\n", 1), [1, 2], 0),
}


@pytest.mark.parametrize("name", LINES)
def test_where_lines_end(doors: Doors, collection: str, name: str) -> None:
    body, wrong, good = LINES[name]
    sent = 0
    for door, send in {
        "ingest": doors.ingest,
        "gzip": lambda collection, body: doors.ingest(collection, gzip.compress(body), **{"content-encoding": "gzip"}),
        "ingest_file": doors.ingest_file,
        "file": doors.command,
        "stdin": lambda collection, body: doors.command(collection, body, "-"),
    }.items():
        errors = send(collection, body.replace(b"DOOR", door.encode()))
        assert [line for line, _ in errors] == wrong, door
        sent += good
        assert doors.client.count(collection) == sent, door
    answer = doors.http.post(
        f"/v1/collections/{collection}/points", content=body.replace(b"DOOR", b"ndjson"), headers=NDJSON
    )
    assert (answer.json()["applied"], answer.json()["rejected"]) == (good, len(wrong))


@pytest.mark.parametrize("text", ["NaN", "1e999", "1" + "0" * 300, "[" * 150 + "]" * 150, '"' + "x" * 100_000 + '"'])
def test_an_id_that_is_none_is_told_as_json(doors: Doors, collection: str, text: str) -> None:
    """Whatever came as an id, the answer is JSON and small."""
    raw = f'{{"id":{text},{V}}}'.encode()
    for body, headers in ((raw, NDJSON), (b'{"points":[' + raw + b"]}", JSON)):
        answer = doors.http.post(f"/v1/collections/{collection}/points", content=body, headers=headers)
        (item,) = json.loads(answer.content, parse_constant=pytest.fail)["items"]
        assert item["error"] == "InvalidId" and len(answer.content) < 2000
    answer = doors.http.post(f"/v1/collections/{collection}/ingest", content=raw, headers=NDJSON)
    job = doors.client.wait_job(answer.json()["job"])
    (line,) = doors.http.get(f"/v1/jobs/{job.id}/errors").text.splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["id"] == item["id"] and len(line) < 2000


def test_a_frame_may_be_gzip(doors: Doors, collection: str) -> None:
    header = b'{"dims":%d,"count":1,"ids":["a"]}' % DIMS
    binary = {"content-type": "application/octet-stream"}
    for spaces in (0, 0x088B1F - len(header)):  # with the second size, a frame begins with the magic of gzip
        text = header + b" " * spaces
        frame = len(text).to_bytes(8, "little") + text + np.array(VECTOR, "<f4").tobytes()
        for body, encoding, status in (
            (frame, {}, 200),
            (gzip.compress(frame), {}, 200),
            (gzip.compress(frame), {"content-encoding": "gzip"}, 200),
            (gzip.compress(frame)[:-9], {}, 422),
            (frame, {"content-encoding": "gzip"}, 422),
        ):
            answer = doors.http.post(
                f"/v1/collections/{collection}/points/vectors", content=body, headers=binary | encoding
            )
            assert answer.status_code == status and (status == 422 or answer.json()["applied"] == 1), answer.text


def test_a_repeated_id(doors: Doors, collection: str) -> None:
    """One request is one moment, so the first point counts; lines are written one after the other, so the last does."""
    twice = [f'{{"id":"a",{V},"metadata":{{"n":{n}}}}}'.encode() for n in (1, 2)]
    assert doors.json(collection, twice) == doors.ndjson(collection, twice) == {1: "DuplicateId"}
    assert doors.upsert(collection, [json.loads(raw) for raw in twice]) == {1: "DuplicateId"}
    assert stored(doors, collection) == {"a": {"n": 1}}
    for send in (doors.ingest, doors.ingest_file, doors.command):
        assert send(collection, b"\n".join(twice)) == []
        assert stored(doors, collection) == {"a": {"n": 2}}


def test_an_encoding_that_is_declared_and_not_there(doors: Doors, collection: str) -> None:
    headers = NDJSON | {"content-encoding": "gzip"}
    for route in ("points", "ingest"):
        answer = doors.http.post(f"/v1/collections/{collection}/{route}", content=A, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (422, "Malformed")
