"""Collections, aliases and bundles over HTTP."""

from pathlib import Path

from tests.server.bundles import TINY, write_tiny_bundle
from tests.server.service import CODE, DOCS, assert_problem, create, fill, serving


async def test_a_collection_is_made_described_listed_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, shards=3)
        await fill(client, 20)
        described = (await client.get(DOCS)).json()
        assert described["name"] == "docs" and described["code"] == CODE and described["points"] == 20
        assert sum(shard["points"].get(CODE, 0) for shard in described["shards"]) == 20
        assert [c["name"] for c in (await client.get("/v1/collections")).json()["collections"]] == ["docs"]
        assert (await client.delete(DOCS)).json() == {"deleted": "docs"}
        assert_problem(await client.get(DOCS), 404, "CollectionNotFound")


async def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        assert_problem(await client.put(DOCS, json={"code": CODE}), 409, "AlreadyExists")
        other = "/v1/collections/other"
        assert_problem(await client.put(other, json={"code": "24x3"}), 400, "InvalidSpec")
        assert_problem(await client.put(other, json={"bundle": "nope@1"}), 404, "BundleNotFound")
        assert_problem(await client.put(other, json={}), 400, "InvalidOption", "bundle")
        assert_problem(await client.put(other, json={"code": CODE, "shards": 0}), 400, "InvalidOption", "shards")
        assert_problem(await client.put(other, json={"code": CODE, "shards": 10**9}), 400, "InvalidOption", "shards")
        assert_problem(await client.put(other, json={"code": CODE, "shardz": 2}), 400, "InvalidOption", "shardz")
        wrong = {"code": CODE, "filterable": {"lang": "text"}}
        assert_problem(await client.put(other, json=wrong), 400, "InvalidOption", "filterable.lang")
        assert_problem(await client.put("/v1/collections/a%20b", json={"code": CODE}), 400, "InvalidOption", "name")
        assert [c["name"] for c in (await client.get("/v1/collections")).json()["collections"]] == ["docs"]


async def test_aliases_stand_for_collections_and_change_all_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 3)
        make = {"create": {"alias": "prod", "collection": "docs"}}
        answer = await client.post("/v1/aliases", json={"actions": [make]})
        assert answer.json() == {"aliases": {"prod": "docs"}} == (await client.get("/v1/aliases")).json()
        assert (await client.post("/v1/collections/prod/points/count")).json() == {"count": 3}
        both = {"actions": [{"delete": {"alias": "prod"}}, {"create": {"alias": "x", "collection": "nope"}}]}
        assert_problem(await client.post("/v1/aliases", json=both), 404, "CollectionNotFound")
        assert (await client.get("/v1/aliases")).json() == {"aliases": {"prod": "docs"}}
        unclear = {"actions": [{}]}
        assert_problem(await client.post("/v1/aliases", json=unclear), 400, "InvalidOption", "actions[0]")
        assert (await client.post("/v1/aliases", json={"actions": [both["actions"][0]]})).json() == {"aliases": {}}


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 100)
    async with serving(tmp_path) as client:
        assert (await client.post(f"{DOCS}/points/count")).json() == {"count": 100}


async def test_a_bundle_with_a_wrong_hash_is_not_used(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundles", tmp_path)
    graph = bundle.path / bundle.binarizer.graph
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    async with serving(tmp_path) as client:
        answer = await client.put(DOCS, json={"bundle": TINY})
        problem = assert_problem(answer, 500, "DamagedBundle")
        assert problem["fields"]["file"] == graph.name and "binarizer.onnx" in problem["detail"]
        assert (await client.get("/v1/collections")).json() == {"collections": []}
