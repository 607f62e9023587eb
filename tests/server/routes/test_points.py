"""Points over HTTP: written, read, changed, deleted; good ones applied, bad ones named."""

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


ODD_IDS = ["a", "a\n", "\n", "a\nb", "a\n\n", "a/b\n", "get\n", "a\r\n", "a\u2028"]


async def test_ids_are_what_they_are_to_the_last_character(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        written = [{"id": id, "code_b64": code(n), "metadata": {"n": n}} for n, id in enumerate(ODD_IDS)]
        answer = await client.post(f"{DOCS}/points", json={"points": written})
        assert answer.json()["applied"] == len(ODD_IDS), answer.text
        for n, id in enumerate(ODD_IDS):
            found = (await client.get(f"{DOCS}/points/{quote(id, safe='/')}")).json()
            assert (found["id"], found["metadata"]) == (id, {"n": n})
        for missing in ("b\n", "a\n\n\n", "b", "a\r"):
            answer = await client.get(f"{DOCS}/points/{quote(missing)}")
            assert assert_problem(answer, 404, "PointNotFound")["fields"]["id"] == missing


async def test_no_route_ends_in_a_line_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        paths = (await client.get("/openapi.json")).json()["paths"]
        for path, item in paths.items():
            if path.endswith("{id}"):
                continue
            for method in item:
                for ending in ("%0A", "%0D%0A", "%00"):
                    url = path.replace("{collection}", "docs").replace("{", "").replace("}", "") + ending
                    answer = await client.request(method.upper(), url, json={} if method != "get" else None)
                    assert answer.status_code in (400, 404, 405), (method, url, answer.text)
        assert (await client.get(DOCS)).status_code == 200


async def test_reads_see_what_they_are_told_to_see(tmp_path: Path) -> None:
    """Another service on the same Redis may have taken the write; the oracle is what was written."""
    async with serving(tmp_path) as client:
        await create(client)
        seq = (await client.post(f"{DOCS}/points", json={"points": points(20)})).json()["seq"]
        search = {"code_b64": code(1), "limit": 20}
        for more in ({"min_seq": seq}, {"consistency": "strong"}, {"min_seq": seq, "consistency": "strong"}):
            assert (await client.post(f"{DOCS}/points/count", json=more)).json() == {"count": 20}
            assert len((await client.post(f"{DOCS}/points/scroll", json=more)).json()["points"]) == 20
            assert len((await client.post(f"{DOCS}/search", json=search | more)).json()["hits"]) == 20
            batch = (await client.post(f"{DOCS}/search/batch", json={"searches": [search | more, search]})).json()
            assert [len(result["hits"]) for result in batch["results"]] == [20, 20]


async def test_what_no_write_has_answered_is_no_min_seq(tmp_path: Path) -> None:
    async with serving(tmp_path, read_wait_seconds=0.05) as client:
        await create(client)
        await fill(client, 5)
        for wrong in ({"99": 1}, {"0": -1}, {"0": "1"}, {"x": 1}, {"0": 2**60}, [1], {"-1": 0}, "1"):
            for path, more in (("points/count", {}), ("points/scroll", {}), ("search", {"code_b64": code(1)})):
                answer = await client.post(f"{DOCS}/{path}", json={"min_seq": wrong} | more)
                assert answer.status_code == 400, (wrong, answer.text)
        assert_problem(await client.post(f"{DOCS}/points/count", json={"consistency": "weak"}), 400, "InvalidOption")
        late = await client.post(f"{DOCS}/points/count", json={"min_seq": {"0": 99}})
        assert_problem(late, 503, "NotReady")
        assert "Retry-After" in late.headers
