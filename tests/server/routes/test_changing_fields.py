"""Filterable fields that change after points were written: added, dropped, of another type, coming by themselves."""

from pathlib import Path
from typing import Any

import httpx
from tests.server.service import DOCS, assert_problem, code, create, ended, serving


async def write(client: httpx.AsyncClient, points: dict[str, dict[str, Any]]) -> dict[str, Any]:
    body = [{"id": i, "code_b64": code(n), "metadata": metadata} for n, (i, metadata) in enumerate(points.items())]
    answer: dict[str, Any] = (await client.post(f"{DOCS}/points", json={"points": body})).json()
    return answer


async def ids(client: httpx.AsyncClient, condition: dict[str, Any]) -> list[str]:
    answer = await client.post(f"{DOCS}/points/scroll", json={"filter": {"must": [condition]}})
    assert answer.status_code == 200, answer.text
    return [point["id"] for point in answer.json()["points"]]


async def change(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The job of a change, once it has succeeded."""
    answer = await client.patch(DOCS, json={"filterable": fields})
    assert answer.status_code == 202, answer.text
    job = await ended(client, answer.json()["job"])
    assert job["state"] == "succeeded", job
    return job


POINTS: dict[str, dict[str, Any]] = {
    "a": {"lang": "en", "year": 2020, "price": 1.5, "at": "2024-02-29T12:00:00+01:00", "shop": {"open": [True]}},
    "b": {"lang": "de", "year": 2021, "price": "cheap", "at": "2024-02-29T11:00:00Z"},
    "c": {"lang": "de", "price": 7, "at": 3, "shop": [{"open": [False]}, {"open": [True]}]},
}


async def test_fields_are_added_dropped_and_get_other_types(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await write(client, POINTS)
        added = {"price": "float", "at": "datetime", "shop.open": "bool[]"}
        job = await change(client, **added, lang=None)
        assert job["kind"] == "fields" and job["fields"] == added | {"lang": None} and job["total"] == 3
        assert job["progress"] == 1 and job["rejected"] == 2
        assert job["misfits"] == {"price": {"count": 1, "ids": ["b"]}, "at": {"count": 1, "ids": ["c"]}}
        described = (await client.get(DOCS)).json()
        assert described["filterable"] == {"year": "integer", **added}
        assert described["fields"]["price"] == {"type": "float", "state": "ready", "progress": 1}
        assert await ids(client, {"key": "price", "range": {"gt": 1}}) == ["a", "c"]
        assert await ids(client, {"is_empty": {"key": "price"}}) == ["b"]
        assert await ids(client, {"key": "at", "match": {"value": "2024-02-29T11:00:00.000Z"}}) == ["a", "b"]
        assert await ids(client, {"key": "shop.open", "match": {"value": True}}) == ["a", "c"]
        found = await client.post(f"{DOCS}/points/get", json={"ids": ["b"]})
        assert found.json()["points"][0]["metadata"] == POINTS["b"]  # as it came
        by_lang = {"filter": {"must": [{"key": "lang", "match": {"value": "en"}}]}}
        assert_problem(await client.post(f"{DOCS}/points/count", json=by_lang), 400, "InvalidFilter")
        refused = await write(client, {"d": {"price": "dear"}, "e": {"price": 2, "lang": 7}})
        assert refused["applied"] == 1 and refused["items"][0]["id"] == "d"
        await change(client, lang="keyword", year="keyword[]")
        assert await ids(client, {"key": "lang", "match": {"value": "de"}}) == ["b", "c"]
        assert await ids(client, {"is_empty": {"key": "year"}}) == ["a", "b", "c", "e"]
    async with serving(tmp_path) as client:
        assert await ids(client, {"key": "lang", "match": {"value": "de"}}) == ["b", "c"]
        assert [job["state"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == ["succeeded"]


async def test_what_changes_nothing_starts_no_job(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        answer = await client.patch(DOCS, json={"filterable": {"new": "bool"}, "recall": 0.9})
        assert answer.status_code == 200 and "job" not in answer.json(), answer.text
        assert answer.json()["filterable"] == {"lang": "keyword", "year": "integer", "new": "bool"}
        assert answer.json()["recall"] == 0.9
        await write(client, {"a": {"new": True}})
        assert await ids(client, {"key": "new", "match": {"value": True}}) == ["a"]
        for same in ({}, {"new": "bool"}, {"absent": None}):
            answer = await client.patch(DOCS, json={"filterable": same})
            assert answer.status_code == 200 and "job" not in answer.json(), same


async def test_what_no_field_can_be_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        many = {f"f{n}": "bool" for n in range(63)}
        for wrong in ({"year": "date"}, {"year": 7}, {"": "bool"}, {"x" * 257: "bool"}, ["year"], "all", many, None):
            answer = await client.patch(DOCS, json={"filterable": wrong})
            assert "filterable" in assert_problem(answer, 400, "InvalidOption")["fields"]["key"], answer.text
        assert (await client.get(DOCS)).json()["filterable"] == {"lang": "keyword", "year": "integer"}


async def test_new_keys_become_filterable_by_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path, max_auto_fields=6) as client:
        await create(client, filterable="auto")
        first = {"n": 1, "price": 3, "at": "2024-01-01T00:00:00Z", "tags": [], "long": "x" * 2000, "shop": {"no": 1}}
        await write(client, {"a": first, "b": {"price": 2.5, "tags": ["x"], "none": None}})
        described = (await client.get(DOCS)).json()
        assert described["auto_filterable"] is True
        expected = {"n": "integer", "price": "float", "at": "datetime", "tags": "keyword[]", "shop.no": "integer"}
        assert described["filterable"] == expected
        assert described["fields"]["n"] == {"type": "integer", "state": "ready", "progress": 1, "auto": True}
        assert await ids(client, {"key": "price", "range": {"lt": 3}}) == ["b"]
        answer = await write(client, {"c": {"n": "one", "late": True, "later": 1}, "d": {"later": 2}})
        assert answer["applied"] == 2  # a value of another type is stored, and missing for filters
        assert await ids(client, {"is_empty": {"key": "n"}}) == ["b", "c", "d"]
        job = (await client.get("/v1/jobs")).json()["jobs"][0]
        await ended(client, job["job"])
        assert await ids(client, {"key": "late", "match": {"value": True}}) == ["c"]
        assert "later" not in (await client.get(DOCS)).json()["filterable"]  # the bound
        await change(client, late=None, n="integer")
        await write(client, {"e": {"late": True, "later": 3}})
        fields = (await client.get(DOCS)).json()["filterable"]
        assert "late" not in fields and "later" in fields  # what was dropped does not come again
        refused = await write(client, {"f": {"n": "two"}})
        assert refused["applied"] == 0  # it was declared by now
        answer = await client.patch(DOCS, json={"filterable": "declared"})
        assert answer.json()["auto_filterable"] is False
        await write(client, {"g": {"more": 1}})
        assert "more" not in (await client.get(DOCS)).json()["filterable"]
        assert (await client.patch(DOCS, json={"filterable": "auto"})).json()["auto_filterable"] is True
        await client.post(f"{DOCS}/points/metadata", json={"ids": ["g"], "set": {"fresh": 5}})
        assert (await client.get(DOCS)).json()["filterable"]["fresh"] == "integer"
