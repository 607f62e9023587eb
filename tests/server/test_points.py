"""Points over HTTP: written, read, changed, deleted; good ones applied, bad ones named."""

import json
from pathlib import Path
from urllib.parse import quote

from tests.server.service import DOCS, assert_problem, code, create, fill, point, points, serving

NDJSON = {"content-type": "application/x-ndjson"}


async def test_a_point_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        odd = {"id": "a/b ü?#", "code_b64": code(1), "metadata": {"title": "Grüße", "deep": {"n": [1, 2.5, None]}}}
        report = (await client.post(f"{DOCS}/points", json={"points": [odd, point(2)]})).json()
        assert (report["applied"], report["rejected"], report["items"]) == (2, 0, [])
        assert sum(report["seq"].values()) == 2
        one = (await client.get(f"{DOCS}/points/{quote(odd['id'], safe='')}")).json()
        assert one["id"] == odd["id"] and one["metadata"] == odd["metadata"]
        body = {"ids": [odd["id"], "nope", "p002"], "with_metadata": False, "with_code": True}
        many = (await client.post(f"{DOCS}/points/get", json=body)).json()
        assert [p["id"] for p in many["points"]] == [odd["id"], "p002"] and many["missing"] == ["nope"]
        assert "metadata" not in many["points"][0] or many["points"][0]["metadata"] is None
        assert many["points"][0]["code_b64"].startswith(code(1)[:7])
        assert_problem(await client.get(f"{DOCS}/points/nope"), 404, "PointNotFound")


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


async def test_deleting_by_ids_and_by_filter(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 10)
        german = {"must": [{"key": "lang", "match": {"value": "de"}}]}
        dry = (await client.post(f"{DOCS}/points/delete", json={"filter": german, "dry_run": True})).json()
        assert dry["would_delete"] == 5
        gone = (await client.post(f"{DOCS}/points/delete", json={"filter": german})).json()
        assert gone["deleted"] == 5
        assert (await client.post(f"{DOCS}/points/delete", json={"ids": ["p000", "nope"]})).json()["deleted"] == 1
        assert (await client.post(f"{DOCS}/points/count", json={})).json() == {"count": 4}
        for body in ({}, {"ids": ["a"], "filter": {}}):
            assert_problem(await client.post(f"{DOCS}/points/delete", json=body), 400, "InvalidOption", "ids")


async def test_scroll_meets_every_point_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 25)
        seen, cursor = [], None
        while True:
            page = (await client.post(f"{DOCS}/points/scroll", json={"limit": 7, "cursor": cursor})).json()
            seen += [p["id"] for p in page["points"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert sorted(seen) == [p["id"] for p in points(25)] and len(set(seen)) == 25
        for body in ({"limit": 0}, {"limit": 10**9}):
            assert_problem(await client.post(f"{DOCS}/points/scroll", json=body), 400, "InvalidOption", "limit")
        assert_problem(await client.post(f"{DOCS}/points/scroll", json={"cursor": "?"}), 400, "InvalidOption", "cursor")


async def test_metadata_fields_are_set_and_removed(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 4)
        body = {"ids": ["p000", "nope"], "set": {"title": "t", "lang": None, "year": 1999}}
        assert (await client.post(f"{DOCS}/points/metadata", json=body)).json()["updated"] == 1
        assert (await client.get(f"{DOCS}/points/p000")).json()["metadata"] == {"title": "t", "year": 1999}
        old = {"must": [{"key": "year", "range": {"lt": 2000}}]}
        assert (await client.post(f"{DOCS}/points/count", json={"filter": old})).json() == {"count": 1}
        wrong = {"ids": ["p001"], "set": {"year": "2020"}}
        assert_problem(await client.post(f"{DOCS}/points/metadata", json=wrong), 400, "InvalidMetadata", "year")
