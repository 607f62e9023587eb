"""`exact` and `recall` of a search, and `recall` of a collection: what they take and say; what is said of lists."""

from pathlib import Path
from typing import Any

import pytest
from tests.server.service import CODE, DOCS, assert_problem, code, create, fill, serving
from tests.waiting import until

SEARCH: dict[str, Any] = {"code_b64": code(3), "limit": 5, "explain": True}


async def test_a_recall_is_that_of_the_collection_until_it_is_changed_also_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await create(client, "/v1/collections/exact", recall=None)
        await create(client, "/v1/collections/coarse", recall=0.5)
        assert (await client.get(DOCS)).json()["recall"] == 0.98
        answer = await client.patch(DOCS, json={"recall": 0.95})
        assert answer.status_code == 200 and answer.json()["recall"] == 0.95
        assert (await client.patch("/v1/collections/coarse", json={"recall": 1 - 1e-3})).json()["recall"] == 0.999
    async with serving(tmp_path) as client:
        found = {one["name"]: one["recall"] for one in (await client.get("/v1/collections")).json()["collections"]}
        assert found == {"docs": 0.95, "exact": None, "coarse": 0.999}
        assert (await client.patch(DOCS, json={"recall": None})).json()["recall"] is None
        await fill(client, 10)
        explained = (await client.post(f"{DOCS}/search", json=SEARCH)).json()["explain"]
        assert explained["exact"] == "the recall of the collection is null"


@pytest.mark.parametrize("recall", [0.49, 0.9991, 1, 0, -1, "0.9", True, [0.9]])
async def test_a_recall_that_cannot_be_is_refused_everywhere(tmp_path: Path, recall: object) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 10)
        assert_problem(await client.patch(DOCS, json={"recall": recall}), 400, "InvalidOption", "recall")
        made = await client.put("/v1/collections/other", json={"code": CODE, "recall": recall})
        assert_problem(made, 400, "InvalidOption", "recall")
        assert_problem(
            await client.post(f"{DOCS}/search", json=SEARCH | {"recall": recall}), 400, "InvalidOption", "recall"
        )
        batch = {"searches": [SEARCH, SEARCH | {"recall": recall}]}
        answer = await client.post(f"{DOCS}/search/batch", json=batch)
        assert_problem(answer, 400, "InvalidOption", "searches[1].recall")


async def test_a_change_names_what_to_change_and_of_what(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert_problem(await client.patch(DOCS, json={"recall": 0.9}), 404, "CollectionNotFound")
        await create(client)
        assert_problem(await client.patch(DOCS, json={}), 400, "InvalidOption", "recall")
        assert_problem(await client.patch(DOCS, json={"recal": 0.9}), 400, "InvalidOption", "recal")
        await client.post("/v1/aliases", json={"actions": [{"create": {"alias": "prod", "collection": "docs"}}]})
        assert (await client.patch("/v1/collections/prod", json={"recall": 0.9})).json()["name"] == "docs"
        assert (await client.get(DOCS)).json()["recall"] == 0.9


@pytest.mark.parametrize("more", [{"exact": True}, {"scorer": "hamming"}, {"group_by": "lang"}])
async def test_a_recall_does_not_apply_to_searches_that_are_exact(tmp_path: Path, more: dict[str, Any]) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 10)
        problem = assert_problem(
            await client.post(f"{DOCS}/search", json=SEARCH | {"recall": 0.9} | more), 400, "InvalidOption", "recall"
        )
        assert next(iter(more)) in problem["detail"]
        assert_problem(
            await client.post(f"{DOCS}/search/batch", json={"searches": [SEARCH, SEARCH | {"recall": 0.9} | more]}),
            400,
            "InvalidOption",
            "searches[1].recall",
        )


async def test_why_a_search_is_exact_is_explained(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client)
        await fill(client, 10)

        async def why(**more: Any) -> str:
            explained = (await client.post(f"{DOCS}/search", json=SEARCH | more)).json()["explain"]
            assert explained["lists"] == {}
            return str(explained["exact"])

        assert await why() == await why(recall=0.9) == await why(exact=False) == "no code version has 50,000 points"
        assert await why(exact=True) == "the search says so"
        assert await why(scorer="hamming", exact=True) == "the search says so"
        assert await why(scorer="hamming") == "scorer hamming compares all codes"
        assert await why(group_by="lang") == "group_by compares all codes"
        plain = (await client.post(f"{DOCS}/search", json=SEARCH)).json()["hits"]
        for more in ({"exact": True}, {"recall": 0.5}, {"exact": False, "recall": None}):
            assert (await client.post(f"{DOCS}/search", json=SEARCH | more)).json()["hits"] == plain
    async with serving(tmp_path, lists_from_points=10) as client:
        assert (await client.post(f"{DOCS}/search", json=SEARCH)).json()["explain"]["exact"] == (
            "the points are not in lists yet"
        )


async def test_the_description_and_the_metrics_say_how_far_lists_are(tmp_path: Path) -> None:
    async with serving(tmp_path, lists_from_points=200, head_rows=64) as client:
        await create(client)
        await fill(client, 100)
        assert (await client.get(DOCS)).json()["lists"] == {}
        assert "bebr_collection_list_points{" not in (await client.get("/metrics")).text
        await fill(client, 400)

        async def measured() -> dict[str, Any] | None:
            (one,) = (await client.get(DOCS)).json()["lists"].values()
            assert one["state"] in ("none", "making", "sorting", "ready")
            assert one["current"] + one["older"] + one["without"] == 400
            return one if one["state"] == "ready" and one["measured_at"] is not None else None

        lists = await until(measured, "lists are ready and measured")
        assert lists is not None and lists["older"] == 0 and lists["current"] == lists["points"] > 200
        (version,) = (await client.get(DOCS)).json()["lists"]
        text = (await client.get("/metrics")).text
        labels = f'collection="docs",version="{version}"'
        for kind, count in (("current", lists["current"]), ("older", 0), ("none", lists["without"])):
            of_kind = f'collection="docs",lists="{kind}",version="{version}"'
            assert f"bebr_collection_list_points{{{of_kind}}} {float(count)}" in text
        assert f"bebr_collection_list_generation{{{labels}}} 1.0" in text
        assert f"bebr_collection_list_recall{{{labels}}} {lists['recall']}" in text
        assert f"bebr_collection_list_delta{{{labels}}} {lists['delta']}" in text
        assert f"bebr_collection_list_clustering_seconds{{{labels}}} " in text
        assert (await client.patch(DOCS, json={"recall": None})).json()["recall"] is None
        assert "bebr_collection_list_delta{" not in (await client.get("/metrics")).text
