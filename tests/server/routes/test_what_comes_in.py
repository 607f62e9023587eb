"""Points over HTTP: fields at paths, integral numbers, long texts, and what a collection takes."""

import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import numpy as np
import pytest
from tests.server.bundles import DIMS, TINY
from tests.server.service import DOCS, assert_problem, code, create, serving, vector_b64

from bebr.core.filters import matches, parse_filter
from bebr.core.types import FieldType
from bebr.index.segment_file import MAGIC

FIELDS = {"a.b": "keyword", "a.b.c": "integer", "l.tag": "keyword[]", "year": "integer", "price": "float"}
METADATA: list[dict[str, Any]] = [
    {},
    {"a": {"b": "x"}},
    {"a.b": "x"},
    {"a.b": "y", "a": {"b": "x"}},
    {"a.b": None, "a": {"b": "x"}},
    {"a": {"b": None}},
    {"a": 5},
    {"a": []},
    {"a": {"b": {"c": 1.0}}, "a.b": "x"},
    {"a.b.c": 1, "year": 2024.0, "price": 1},
    {"l": [{"tag": "x"}, {"tag": ["y", "z"]}, {}, 5]},
    {"l": {"tag": ["x"]}, "year": 2024},
    {"l": [], "year": 9007199254740993},
    {"year": -0.0, "price": -0.0},
]
CONDITIONS: list[dict[str, Any]] = [
    {"key": "a.b", "match": {"value": "x"}},
    {"key": "a.b", "match": {"except": ["x"]}},
    {"is_empty": {"key": "a.b"}},
    {"key": "a.b.c", "match": {"value": 1}},
    {"key": "a.b.c", "range": {"gte": 1}},
    {"key": "l.tag", "match": {"value": "x"}},
    {"key": "l.tag", "match": {"any": ["z", "q"]}},
    {"is_empty": {"key": "l.tag"}},
    {"key": "year", "match": {"value": 2024.0}},
    {"key": "year", "match": {"any": [2024, 0]}},
    {"key": "year", "match": {"value": 9007199254740993}},
    {"key": "year", "range": {"gte": 2023.5}},
    {"key": "price", "match": {"any": [0, 1]}},
]


async def found(client: httpx.AsyncClient, condition: dict[str, Any]) -> set[str]:
    answer = await client.post(f"{DOCS}/points/scroll", json={"filter": {"must": [condition]}})
    assert answer.status_code == 200, answer.text
    return {point["id"] for point in answer.json()["points"]}


async def test_a_field_is_a_key_or_a_path(tmp_path: Path) -> None:
    points = [{"id": str(n), "code_b64": code(n), "metadata": metadata} for n, metadata in enumerate(METADATA)]
    fields = {key: FieldType(kind) for key, kind in FIELDS.items()}

    async def check(client: httpx.AsyncClient) -> None:
        for condition in CONDITIONS:
            tree = parse_filter({"must": [condition]}, fields)
            expected = {point["id"] for point in points if matches(tree, str(point["id"]), point["metadata"])}
            assert await found(client, condition) == expected, condition

    async with serving(tmp_path) as client:
        await create(client, filterable=FIELDS)
        answer = await client.post(f"{DOCS}/points", json={"points": points})
        assert answer.json()["rejected"] == 0, answer.text
        await check(client)
        assert await found(client, CONDITIONS[0]) == {"1", "2", "4", "8"}
        grouped = await client.post(
            f"{DOCS}/search", json={"code_b64": code(0), "group_by": "a.b", "with_metadata": False}
        )
        assert len(grouped.json()["hits"]) == 2
        wanted = {"ids": ["1", "5", "6", "10"], "with_metadata": ["a.b", "l.tag", "a"]}
        fetched = (await client.post(f"{DOCS}/points/get", json=wanted)).json()["points"]
        assert [point["metadata"] for point in fetched] == [
            {"a.b": "x", "a": {"b": "x"}},
            {"a": {"b": None}},
            {"a": 5},
            {"l.tag": ["x", "y", "z"]},
        ]
    async with serving(tmp_path) as client:  # from sealed segments
        await check(client)
        patch = {"ids": ["1"], "set": {"a": {"b": "y"}}}
        assert (await client.post(f"{DOCS}/points/metadata", json=patch)).json()["updated"] == 1
        assert await found(client, CONDITIONS[0]) == {"2", "4", "8"}
        wrong = {"ids": ["1"], "set": {"a": {"b": 5}}}
        assert_problem(await client.post(f"{DOCS}/points/metadata", json=wrong), 400, "InvalidMetadata", "a.b")


async def test_a_segment_of_a_release_without_paths_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that release wrote: columns that know keys only, over metadata that it did not check at paths."""
    fields = {"a.b": "keyword"}
    points = [{"id": "x", "code_b64": code(0), "metadata": {"a": {"b": "x"}}}]
    with monkeypatch.context() as old:
        old.setattr("bebr.shards.changes.field_value", dict.get)
        old.setattr("bebr.core.types.field_value", dict.get)
        points.append({"id": "y", "code_b64": code(1), "metadata": {"a": {"b": 5}}})
        async with serving(tmp_path) as client:
            await create(client, filterable=fields)
            assert (await client.post(f"{DOCS}/points", json={"points": points})).json()["rejected"] == 0
    start = len(MAGIC) + 8
    for path in tmp_path.rglob("*.seg"):
        data = bytearray(path.read_bytes())
        (length,) = struct.unpack_from("<I", data, len(MAGIC))
        header = bytes(data[start : start + length]).replace(b'"reads_paths": true', b'"reads_paths": null')
        assert b"null" in header
        data[start : start + length] = header
        struct.pack_into("<I", data, len(MAGIC) + 4, crc32(header))
        path.write_bytes(data)
    async with serving(tmp_path) as client:
        assert await found(client, CONDITIONS[0]) == {"x"}
        assert await found(client, {"is_empty": {"key": "a.b"}}) == {"y"}


async def test_a_text_has_its_own_limit(tmp_path: Path, bundles: Path) -> None:
    long = "word " * 14_000
    async with serving(tmp_path, bundles_dir=bundles) as client:
        await create(client, code=None, bundle=TINY, text_field="text", filterable={})
        points = [
            {"id": "a", "text": long, "metadata": {"x": "y" * 60_000}},
            {"id": "b", "vector_b64": vector_b64([1.0] * DIMS), "metadata": {"text": long}},
            {"id": "c", "text": long, "metadata": {"x": "y" * 66_000}},
            {"id": "d", "vector_b64": vector_b64([1.0] * DIMS), "metadata": {"text": long * 2}},
            {"id": "e", "text": "a", "metadata": {"other": long}},
        ]
        report = (await client.post(f"{DOCS}/points", json={"points": points})).json()
        assert [(item["id"], item["error"]) for item in report["items"]] == [
            (name, "InvalidMetadata") for name in "cde"
        ]
        patch = {"ids": ["a", "b"], "set": {"z": 1}}
        assert (await client.post(f"{DOCS}/points/metadata", json=patch)).json()["updated"] == 2
        assert (await client.get(f"{DOCS}/points/a")).json()["metadata"]["text"] == long
        too_much = {"ids": ["a"], "set": {"z": "y" * 10_000}}
        assert_problem(await client.post(f"{DOCS}/points/metadata", json=too_much), 400, "InvalidMetadata")


async def test_a_collection_says_what_it_takes(tmp_path: Path, bundles: Path) -> None:
    rng = np.random.default_rng(0)
    async with serving(tmp_path, bundles_dir=bundles) as client:
        made = (
            ({"code": "6x4"}, ["code_b64"]),
            ({"bundle": TINY}, ["text", "vector", "vector_b64", "code_b64"]),
            ({"fit": {"bytes": 4, "dims": 8}}, ["vector", "vector_b64"]),
            ({"bundle": TINY, "fit": {"bytes": 4}}, ["text", "vector", "vector_b64"]),
        )
        for number, (body, takes) in enumerate(made):
            answer = await client.put(f"/v1/collections/c{number}", json=body)
            assert answer.json()["takes"] == takes
            sources = {"text": "parse a date", "vector": rng.normal(size=8 if "dims" in str(body) else DIMS).tolist()}
            for source, value in sources.items():
                point = {"id": source, source: value}
                report = (await client.post(f"/v1/collections/c{number}/points", json={"points": [point]})).json()
                assert report["applied"] == (source in takes), report
        answer = await client.post("/v1/collections/c0/points", json={"points": [{"id": "a", "vector": [1.0] * 6}]})
        assert "'fit'" in answer.json()["items"][0]["detail"]
        assert (
            "'fit'"
            in assert_problem(
                await client.post("/v1/collections/c0/search", json={"vector": [1.0] * 6}),
                400,
                "InvalidOption",
                "vector",
            )["detail"]
        )
