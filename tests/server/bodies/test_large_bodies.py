"""Bodies that cost more than they are worth: what is wrong with them is found early, and large ones are cut up."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.service import DOCS, assert_problem, code, create, ended, fill, points, serving
from tests.waiting import until

from bebr.errors import InvalidOption, Malformed
from bebr.server import validation
from bebr.server.bodies import large_bodies
from bebr.server.bodies.body import parse
from bebr.server.bodies.large_bodies import item_spans, parse_items
from bebr.server.requests.points import GetPoints, WritePoints
from bebr.server.requests.search import Search, SearchBatch

MANY = 100_000


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (Search, b'{"vector": [' + b'"",' * MANY + b'""]}'),
        (Search, b'{"vector": [' + b"1," * MANY + b"1]}"),
        (Search, b'{"with_metadata": [' + b"1," * MANY + b"1]}"),
        (SearchBatch, b'{"searches": [' + b'{"x": 1},' * MANY + b"{}]}"),
        (SearchBatch, b'{"searches": [' + b"1," * MANY + b"{}]}"),
        (GetPoints, b'{"ids": [' + b"1," * MANY + b"1]}"),
        (WritePoints, b'{"points": [' + b"1," * MANY + b"1]}"),
        (Search, json.dumps({f"k{n}": n for n in range(MANY)}).encode()),
        (Search, json.dumps({"x" * MANY: 1}).encode()),
        (SearchBatch, json.dumps({"searches": [{f"k{n}": n for n in range(MANY)}]}).encode()),
    ],
)
def test_no_body_has_many_findings(model: Any, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    close = validation.difflib.get_close_matches

    def watched(name: str, known: Any, n: int) -> list[str]:
        compared.append(name)
        return close(name, known, n)

    monkeypatch.setattr(validation.difflib, "get_close_matches", watched)
    with pytest.raises(InvalidOption) as caught:
        parse(model, body)
    assert len(caught.value.fields["errors"]) <= validation.MAX_FINDINGS
    assert len(json.dumps(caught.value.fields)) < 10_000 and len(caught.value.detail) < 1_000
    assert len(compared) <= 1 and all(len(name) <= validation.MAX_NAME_CHARS for name in compared)


def test_a_body_of_many_faults_names_the_first_of_them() -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(Search, json.dumps({"limit": 0} | {f"k{n}": n for n in range(1000)}).encode())
    assert list(caught.value.fields["errors"])[:3] == ["limit", "k0", "k1"]


SHAPES = {
    b'{"a": [{"b": "]}[{"}, {"c": [1, [2], "\\"]"]}]}': ['{"b": "]}[{"}', '{"c": [1, [2], "\\"]"]}'],
    b' { "x" : {"a": [1]} , "a":["p" , "q\\\\"],"y":1}': ['"p"', '"q\\\\"'],
    b'{"a": [[1, 2], {"a": [3]}]}': ["[1, 2]", '{"a": [3]}'],
    b'{"b": null, "a": [null, {"c": null}, null,"null"], "d": null}': ["null", '{"c": null}', "null", '"null"'],
    b'{"a": [null null]}': None,
    b'{"a": [nulls, {}]}': None,
    b'{"a": []}': None,
    b'{"a": [1, 2]}': None,
    b'{"a": [{} {}]}': None,
    b'{"a": [{}, 1, {}]}': None,
    b'{"a": [{},]}': None,
    b'{"a": {}}': None,
    b'["a", [{}]]': None,
    b'{"a": [{}, "': None,
    b'{"b": [{}]}': None,
    b'{"a": [{}': None,
}


@pytest.mark.parametrize("body", SHAPES)
def test_the_items_of_a_body_are_found(body: bytes) -> None:
    spans = item_spans(body, "a", 10)
    found = None if spans is None else [body[start:end].decode() for start, end in spans]
    assert found == SHAPES[body]


async def test_a_large_body_means_the_same_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = [
        {"vector": [0.5, n], "limit": n + 1, "filter": {"must": [{"key": 'a"]', "match": {"value": "{"}}]}}
        for n in range(50)
    ]
    body = json.dumps({"searches": searches}).encode()
    whole = parse(SearchBatch, body)
    monkeypatch.setattr(large_bodies, "WHOLE_BYTES", 0)
    assert await parse_items(SearchBatch, body, "searches", 50, Search) == whole
    with pytest.raises(InvalidOption, match="at most 49"):
        await parse_items(SearchBatch, body, "searches", 49, Search)
    searches[7]["limit"] = 0
    with pytest.raises(InvalidOption) as caught:
        await parse_items(SearchBatch, json.dumps({"searches": searches}).encode(), "searches", 50, Search)
    assert caught.value.fields["key"] == "searches[7].limit"
    with pytest.raises(InvalidOption, match="unknown field 'x'"):
        await parse_items(SearchBatch, b'{"searches": [{}, {}], "x": 1}', "searches", 50, Search)
    with pytest.raises(InvalidOption, match="twice"):
        await parse_items(SearchBatch, b'{"searches": [{}], "searches": [{}, {}]}', "searches", 50, Search)
    for broken in (
        b'{"searches": [{}, {"limit": }]}',
        b'{"searches": [{}, {}]',
        b'{"searches": [{}, {}]} x',
        b"[" * 100,
    ):
        with pytest.raises(Malformed):
            await parse_items(SearchBatch, broken, "searches", 50, Search)


async def test_large_writes_in_every_shape_are_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        some = [point | {"metadata": point["metadata"] | {"text": 'x"]}' * 1000}} for point in points(200)]
        body = json.dumps({"points": some}).encode()
        assert len(body) > large_bodies.WHOLE_BYTES
        answer = await client.post(f"{DOCS}/points", content=body, headers={"content-type": "application/json"})
        assert answer.json()["applied"] == 200, answer.text
        lines = b"\n".join(json.dumps(point).encode() for point in some)
        answer = await client.post(f"{DOCS}/points", content=lines, headers={"content-type": "application/x-ndjson"})
        assert answer.json()["applied"] == 200, answer.text
        assert (await client.get(f"{DOCS}/points/p007")).json()["metadata"]["year"] == 2007


async def test_bodies_of_queries_have_a_limit_of_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path, max_query_bytes=2048) as client:
        await create(client)
        await fill(client, 40)  # larger than that
        padded = b"{" + b" " * 2048 + b"}"
        for path in ("search", "points/count", "points/scroll", "points/get", "points/delete", "points/metadata"):
            headers = {"content-type": "application/json"}
            for body, more in ((padded, {}), (gzip.compress(padded), {"content-encoding": "gzip"})):
                answer = await client.post(f"{DOCS}/{path}", content=body, headers=headers | more)
                assert_problem(answer, 413, "PayloadTooLarge")
        searches = {"searches": [{"code_b64": code(n)} for n in range(100)]}
        assert (await client.post(f"{DOCS}/search/batch", json=searches)).status_code == 200


async def slowly(pieces: list[bytes], until: asyncio.Event) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    await until.wait()
    yield b"\n"


async def test_bodies_in_flight_share_a_budget(tmp_path: Path) -> None:
    async with serving(tmp_path, max_bytes_in_flight=300_000) as client:
        await create(client)
        done, headers = asyncio.Event(), {"content-type": "application/x-ndjson"}
        line = json.dumps(points(1)[0]).encode() + b"\n"

        async def write(size: int) -> httpx.Response:
            return await client.post(f"{DOCS}/points", content=slowly([line, b" " * size], done), headers=headers)

        first = asyncio.create_task(write(200_000))

        async def held() -> float:
            text = (await client.get("/metrics")).text
            return float(text.partition("\nbebr_bodies_in_flight_bytes ")[2].split()[0])

        async def is_held() -> bool:
            return await held() >= 200_000

        await until(is_held, "most of the first body")
        assert_problem(await write(200_000), 429, "Overloaded")
        assert 200_000 <= await held() <= 300_000
        done.set()
        assert (await first).json()["applied"] == 1
        assert (await write(200_000)).json()["applied"] == 1, "the budget was given back"
        assert "\nbebr_bodies_in_flight_bytes 0.0" in (await client.get("/metrics")).text


async def test_a_body_has_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
    async with serving(tmp_path, body_timeout_seconds=0.1) as client:
        headers = {"content-type": "application/x-ndjson"}
        answer = await client.post(f"{DOCS}/points", content=slowly([b"{}\n"], asyncio.Event()), headers=headers)
        assert_problem(answer, 408, "RequestTimeout")


async def test_uploads_have_places_of_their_own_and_are_seen(tmp_path: Path) -> None:
    async with serving(tmp_path, max_uploads=2, max_jobs=2) as client:
        await create(client)
        done, headers = asyncio.Event(), {"content-type": "application/x-ndjson"}
        line = json.dumps(points(1)[0]).encode() + b"\n"

        async def ingest() -> httpx.Response:
            return await client.post(f"{DOCS}/ingest", content=slowly([line], done), headers=headers)

        uploads = [asyncio.create_task(ingest()) for _ in range(2)]

        async def details() -> list[str]:
            return [job["detail"] for job in (await client.get("/v1/jobs")).json()["jobs"]]

        async def have_come() -> bool:
            return await details() == [f"uploading: {len(line)} bytes so far"] * 2

        await until(have_come, "two uploads")
        assert_problem(await ingest(), 429, "Overloaded")
        assert await have_come()
        jobs = (await client.get("/v1/jobs")).json()["jobs"]
        assert (await client.delete(f"/v1/jobs/{jobs[0]['job']}")).status_code == 200
        done.set()
        answers = sorted([await upload for upload in uploads], key=lambda answer: answer.status_code)
        assert [answer.status_code for answer in answers] == [202, 409]
        assert (await ended(client, answers[0].json()["job"]))["applied"] == 1
        assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1
