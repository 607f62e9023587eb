"""Writing points over HTTP: texts, vectors and codes, as JSON, NDJSON, binary frames and in bulk."""

import json
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.encoding.importing.checkpoints import DIMS
from tests.server.bundles import TEXTS, best
from tests.server.service import DOCS, assert_problem, code, create, ended, fill, point, points, serving, vector_b64

BINARY = {"content-type": "application/octet-stream"}


def rows(count: int = 20) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((count, DIMS)).astype("<f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def frame(ids: list[Any], vectors: np.ndarray, metadata: list[Any] | None = None) -> bytes:
    header = {"dims": vectors.shape[1], "count": len(vectors), "ids": ids, "metadata": metadata}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + vectors.tobytes()


async def test_a_text_is_found_by_itself(client: httpx.AsyncClient) -> None:
    points = [{"id": f"t{i}", "text": text} for i, text in enumerate(TEXTS)]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == len(TEXTS)
    for i, text in enumerate(TEXTS):
        assert await best(client, text=text) == f"t{i}"
    searches = {"searches": [{"text": text, "limit": 1} for text in TEXTS]}
    results = (await client.post(f"{DOCS}/search/batch", json=searches)).json()["results"]
    assert [result["hits"][0]["id"] for result in results] == [f"t{i}" for i in range(len(TEXTS))]


async def test_a_vector_is_found_however_it_came(client: httpx.AsyncClient) -> None:
    vectors = rows()
    points = [
        {"id": "list", "vector": vectors[0].tolist()},
        {"id": "base64", "vector_b64": vector_b64(vectors[1])},
    ]
    assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["applied"] == 2
    ids = [f"f{i}" for i in range(2, 20)]
    body = frame(ids, vectors[2:], [{"n": i} for i in range(18)])
    assert (await client.post(f"{DOCS}/points/vectors", content=body, headers=BINARY)).json()["applied"] == 18
    for name, vector in zip(["list", "base64", *ids], vectors, strict=True):
        assert await best(client, vector=vector.tolist()) == name
        assert await best(client, vector_b64=vector_b64(vector)) == name
    last = {"must": [{"key": "n", "match": {"value": 17}}]}
    assert await best(client, vector=vectors[2].tolist(), filter=last) == "f19"


async def test_bad_texts_and_vectors_are_named_and_good_ones_applied(client: httpx.AsyncClient) -> None:
    good, nan, inf = rows()[0].tolist(), [float("nan")] * DIMS, [1e300] * DIMS
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vector": nan}, "InvalidVector"),
        ({"vector": inf}, "InvalidVector"),
        ({"vector": [0.0] * DIMS}, "InvalidVector"),
        ({"vector": ["1"] * DIMS}, "InvalidVector"),
        ({"vector": good[:-1]}, "DimensionMismatch"),
        ({"vector": []}, "DimensionMismatch"),
        ({"vector_b64": vector_b64(nan)}, "InvalidVector"),
        ({"vector_b64": vector_b64(good[:-1])}, "DimensionMismatch"),
        ({"vector_b64": "not base64!"}, "InvalidVector"),
        ({"vector_b64": "AAA="}, "InvalidVector"),
        ({"text": ""}, "InvalidText"),
        ({"text": " \n"}, "InvalidText"),
        ({"text": 7}, "InvalidText"),
        ({"text": "x" * 100_001}, "InvalidText"),
        ({"text": "a", "vector": good}, "InvalidOption"),
    ]
    points = [{"id": "good", "vector": good}, *({"id": f"w{i}", **bad} for i, (bad, _) in enumerate(wrong))]
    body = json.dumps({"points": [*points, {"id": "text", "text": "fox"}]})
    answer = await client.post(f"{DOCS}/points", content=body, headers={"content-type": "application/json"})
    report = answer.json()
    assert report["applied"] == 2, report
    assert [(item["id"], item["error"]) for item in report["items"]] == [
        (f"w{i}", error) for i, (_, error) in enumerate(wrong)
    ]


async def test_bad_rows_of_a_frame_are_named_and_good_ones_applied(client: httpx.AsyncClient) -> None:
    vectors = rows(5)
    vectors[1] = np.nan
    vectors[2] = 0
    body = frame(["a", "b", "c", "a", 7], vectors)
    report = (await client.post(f"{DOCS}/points/vectors", content=body, headers=BINARY)).json()
    assert report["applied"] == 1
    assert [(item["index"], item["error"]) for item in report["items"]] == [
        (1, "InvalidVector"),
        (2, "InvalidVector"),
        (3, "DuplicateId"),
        (4, "InvalidId"),
    ]
    wide = frame(["a"], np.ones((1, DIMS + 1), "<f4"))
    answer = await client.post(f"{DOCS}/points/vectors", content=wide, headers=BINARY)
    assert_problem(answer, 400, "DimensionMismatch")
    assert_problem(await client.post(f"{DOCS}/points/vectors", json={}), 415, "UnsupportedMedia")


async def test_texts_are_ingested_in_bulk(client: httpx.AsyncClient) -> None:
    body = "\n".join(json.dumps({"id": f"t{i}", "text": text}) for i, text in enumerate([*TEXTS, " "]))
    answer = await client.post(f"{DOCS}/ingest", content=body, headers={"content-type": "application/x-ndjson"})
    state = await ended(client, answer.json()["job"])
    assert (state["applied"], state["rejected"]) == (len(TEXTS), 1)
    assert await best(client, text=TEXTS[2]) == "t2"


NDJSON = {"content-type": "application/x-ndjson"}


async def test_bad_points_are_named_and_good_ones_applied(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        wrong = [
            (7, "InvalidOption"),
            ({"code_b64": code(0)}, "InvalidOption"),
            ({"id": 7, "code_b64": code(0)}, "InvalidId"),
            ({"id": "", "code_b64": code(0)}, "InvalidId"),
            ({"id": "x" * 257, "code_b64": code(0)}, "InvalidId"),
            ({"id": "w4"}, "InvalidOption"),
            ({"id": "w5", "code_b64": "!"}, "InvalidCode"),
            ({"id": "w6", "code_b64": "AAAA"}, "DimensionMismatch"),
            ({"id": "w7", "code_b64": code(0), "colour": 1}, "InvalidOption"),
            ({"id": "w8", "code_b64": code(0), "metadata": [1]}, "InvalidMetadata"),
            ({"id": "w9", "code_b64": code(0), "metadata": {"year": "2020"}}, "InvalidMetadata"),
            ({"id": "p000", "code_b64": code(0)}, "DuplicateId"),
            ({"id": "w12", "text": "text"}, "InvalidOption"),
            ({"id": "w13", "vector": [1.0, 2.0]}, "InvalidOption"),
            ({"id": "w14", "code_b64": code(0), "vector": [1.0]}, "InvalidOption"),
        ]
        body = {"points": [point(0), *(bad for bad, _ in wrong), point(1)]}
        report = (await client.post(f"{DOCS}/points", json=body)).json()
        assert (report["applied"], report["rejected"]) == (2, len(wrong))
        assert [(i["index"], i["error"]) for i in report["items"]] == [
            (i, error) for i, (_, error) in enumerate(wrong, 1)
        ]
        assert all(item["detail"] for item in report["items"])
        assert (await client.post(f"{DOCS}/points/count")).json() == {"count": 2}


async def test_ndjson_lines_that_do_not_parse_are_named_and_the_rest_applied(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        lines = [json.dumps(point(0)), "", '{"id": "x", ', json.dumps(point(0)), "7", json.dumps(point(1))]
        answer = await client.post(f"{DOCS}/points", content="\n".join(lines), headers=NDJSON)
        report = answer.json()
        assert (report["applied"], report["rejected"]) == (2, 3), report
        items = [(item["index"], item["error"]) for item in report["items"]]
        assert items == [(1, "Malformed"), (2, "DuplicateId"), (3, "InvalidOption")]
        assert "column" in report["items"][0]["detail"]


async def test_modes(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 2)
        body = {"points": [point(1, title="new"), point(2)]}
        inserted = (await client.post(f"{DOCS}/points?mode=insert_only", json=body)).json()
        assert inserted["applied"] == 1 and inserted["items"][0]["error"] == "AlreadyExists"
        updated = (await client.post(f"{DOCS}/points?mode=update_only", json={"points": [point(1), point(9)]})).json()
        assert updated["applied"] == 1 and updated["items"][0]["error"] == "PointNotFound"
        assert_problem(await client.post(f"{DOCS}/points?mode=merge", json=body), 400, "InvalidOption", "mode")
        assert_problem(await client.post(f"{DOCS}/points?modus=upsert", json=body), 400, "InvalidOption", "modus")


async def test_a_retry_with_the_same_key_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        key = {"idempotency-key": "once"}
        body = {"points": points(3)}
        first = await client.post(f"{DOCS}/points?mode=insert_only", json=body, headers=key)
        again = await client.post(f"{DOCS}/points?mode=insert_only", json=body, headers=key)
        assert first.json() == again.json() and first.json()["applied"] == 3
        other = await client.post(f"{DOCS}/points?mode=insert_only", json={"points": points(4)}, headers=key)
        assert_problem(other, 409, "IdempotencyConflict")
        empty = await client.post(f"{DOCS}/points", json=body, headers={"idempotency-key": ""})
        assert_problem(empty, 400, "InvalidOption", "idempotency-key")


async def test_a_request_that_fails_in_one_shard_says_so_line_by_line(tmp_path: Path) -> None:
    """One shard takes nothing (a trigger); lines are counted as they were sent, also those that do not parse."""
    async with serving(tmp_path) as client:
        await create(client, shards=2)
        (file,) = (tmp_path / "data" / "store" / "collections").glob("*.db")
        with closing(sqlite3.connect(file)) as database:
            database.execute("create trigger full before insert on points_1 begin select raise(abort, 'no'); end")
        lines = [b"{", *(json.dumps(one).encode() for one in points(6)), b"]"]
        headers = {"content-type": "application/x-ndjson", "idempotency-key": "k"}
        failed = await client.post(f"{DOCS}/points", content=b"\n".join(lines), headers=headers)
        fields = assert_problem(failed, 503, "StoreUnavailable")["fields"]
        names = [None, *(one["id"] for one in points(6)), None]
        outcomes = {item["index"]: item["outcome"] for item in fields["items"]}
        there = (await client.post(f"{DOCS}/points/get", json={"ids": names[1:-1]})).json()["points"]
        assert {names[n] for n in set(range(8)) - outcomes.keys()} == {one["id"] for one in there}
        assert (fields["applied"], fields["unknown"], fields["not_applied"]) == (len(there), 6 - len(there), 2)
        with closing(sqlite3.connect(file)) as database:
            database.execute("drop trigger full")
        again = await client.post(f"{DOCS}/points", content=b"\n".join(lines), headers=headers)
        assert (again.json()["applied"], again.json()["rejected"]) == (6, 2)
