"""Folders and stores that older releases left are opened by this one and answer as they did, bit for bit."""

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.golden.comparing import differs, kept, kept_lines
from tests.golden.made import arithmetic
from tests.golden.opening import (
    Golden,
    all_golden,
    kinds_of_keys,
    opened,
    read_expected,
    store_of,
    until_idle,
)
from tests.waiting import until

from bebr.server import loop_watch

SOURCES = ("text", "vector_b64", "code_b64")
ENOUGH_FOR_A_FIT = 124
NEW_POINT = "written-by-this-release"
ADDED_KINDS = {
    f"bebr:documents:{kind}"
    for kind in ("reservoir", "reservoir-page", "centroids", "centroids-page", "list-calibration")
}
"""Documents that came later, beside the others: older releases never look for them."""


@pytest.fixture(params=all_golden(), ids=str)
def golden(request: pytest.FixtureRequest) -> Golden:
    found: Golden = request.param
    return found


@pytest.fixture
def store(golden: Golden) -> Iterator[dict[str, Any]]:
    with store_of(golden) as settings:
        yield settings


async def test_what_was_left_answers_as_before_and_goes_on(
    tmp_path: Path, golden: Golden, store: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    data = golden.copy(tmp_path / "data")
    keys = kinds_of_keys(store["redis_url"]) if store else set()
    async with opened(data, **store) as client:
        await compare(client, golden)
        assert [record.message for record in caplog.records if is_of_the_store(record)] == []
        left = {name: await change(client, golden, name) for name in await collections(client)}
        await finish_backfills(client)
        await finish_fits(client)
    async with opened(data, **store) as client:
        for name, expected in left.items():
            await check_changed(client, name, expected)
    if store:
        added = kinds_of_keys(store["redis_url"]) - keys
        assert added <= ADDED_KINDS, "a key of another kind is a change of format"


async def test_without_the_files_of_views_the_store_answers_the_same(
    tmp_path: Path, golden: Golden, store: dict[str, Any]
) -> None:
    data = golden.copy(tmp_path / "data")
    segments, own_bundles = [*data.rglob("*.seg")], [*(data / "bundles").glob("own-*")]
    assert segments
    shutil.rmtree(data / "collections")
    for bundle in own_bundles:
        shutil.rmtree(bundle)
    async with opened(data, **store) as client:
        await compare(client, golden)
    assert [*data.rglob("*.seg")] and [*(data / "bundles").glob("own-*")] == own_bundles


def is_of_the_store(record: logging.LogRecord) -> bool:
    """A warning, but not that the machine was busy."""
    return record.levelno >= logging.WARNING and record.name != loop_watch.__name__


async def compare(client: httpx.AsyncClient, golden: Golden) -> None:
    """Ask everything again. Where this machine rounds in another way, numbers are compared to a tolerance. Scores of
    searches always are: each release multiplies a projection in its own order, which may move the last digit."""
    expected = golden.expected()
    exact = read_expected(golden.format)["arithmetic"] == arithmetic()
    for asked, answer in expected:
        if asked["path"] == "/v1/embeddings" and asked["body"]["encoding_format"] == "base64":
            exact = exact and kept(await ask(client, asked)) == kept(answer)
    for asked, answer in expected:
        if not exact and asked.get("body", {}).get("encoding_format") == "code":
            continue  # a value that lies between two levels falls to either
        found = await ask(client, asked)
        select = kept_lines if asked["path"].endswith("/errors") else kept
        same = exact and not asked["path"].endswith("/search")
        assert (difference := differs(select(found), select(answer), same)) is None, (asked, difference)


async def ask(client: httpx.AsyncClient, asked: dict[str, Any]) -> Any:
    answer = await client.request(asked["method"], asked["path"], json=asked.get("body"), headers=asked.get("headers"))
    assert answer.status_code == 200, (asked, answer.text)
    return answer.text.splitlines() if asked["path"].endswith("/errors") else answer.json()


async def collections(client: httpx.AsyncClient) -> list[str]:
    return [each["name"] for each in (await client.get("/v1/collections")).json()["collections"]]


async def change(client: httpx.AsyncClient, golden: Golden, name: str) -> int:
    """Write a point and delete another -> how many points there are."""
    path = f"/v1/collections/{name}"
    before = await count(client, name)
    point = {"id": NEW_POINT, **source_of_queries(golden, name), "metadata": {"made": "now"}}
    report = (await client.post(f"{path}/points", json={"points": [point]})).json()
    assert report["applied"] == 1, report
    page = (await client.post(f"{path}/points/scroll", json={"limit": 1})).json()
    gone = page["points"][0]["id"]
    deleted = await client.post(f"{path}/points/delete", json={"ids": [gone]})
    assert deleted.json()["deleted"] == 1 and (await client.get(f"{path}/points/{gone}")).status_code == 404
    changed = await client.post(f"{path}/points/metadata", json={"ids": [NEW_POINT], "set": {"more": 1}})
    assert changed.json()["updated"] == 1
    await check_changed(client, name, before)
    return before


async def check_changed(client: httpx.AsyncClient, name: str, expected: int) -> None:
    path = f"/v1/collections/{name}"
    assert await count(client, name) == expected
    metadata = (await client.get(f"{path}/points/{NEW_POINT}")).json()["metadata"]
    assert (metadata["made"], metadata["more"]) == ("now", 1)
    hits = (await client.post(f"{path}/search", json={"id": NEW_POINT, "limit": 1000})).json()["hits"]
    assert len(hits) == expected and NEW_POINT in [hit["id"] for hit in hits]


async def count(client: httpx.AsyncClient, name: str) -> int:
    return int((await client.post(f"/v1/collections/{name}/points/count", json={})).json()["count"])


def source_of_queries(golden: Golden, name: str) -> dict[str, Any]:
    """What a collection is searched by can be written into it as well."""
    for source in SOURCES:
        for asked, _ in golden.expected():
            if asked["path"] == f"/v1/collections/{name}/search" and source in asked["body"]:
                return {source: asked["body"][source]}
    raise AssertionError(f"no search of '{name}' says what it takes")


async def finish_backfills(client: httpx.AsyncClient) -> None:
    """A backfill that was paused goes on to its end."""
    paused = [job for job in (await client.get("/v1/jobs")).json()["jobs"] if job["state"] == "paused"]
    for job in paused:
        assert (await client.post(f"/v1/jobs/{job['job']}/resume")).status_code == 200
    await until_idle(client)
    for job in paused:
        ended = (await client.get(f"/v1/jobs/{job['job']}")).json()
        versions = (await client.get(f"/v1/collections/{job['collection']}/versions")).json()["versions"]
        assert (ended["state"], ended["remaining"]) == ("succeeded", 0)
        assert [version["points"] > 0 for version in versions] == [version["active"] for version in versions]


async def is_fitted(client: httpx.AsyncClient, path: str) -> bool:
    return bool((await client.get(path)).json()["fit"]["state"] == "done")


async def finish_fits(client: httpx.AsyncClient) -> None:
    """A binarizer is fitted to the embeddings that were collected, where they are enough."""
    for name in await collections(client):
        path = f"/v1/collections/{name}"
        fit = (await client.get(path)).json()["fit"]
        if fit is None or kept(fit)["collected"] < ENOUGH_FOR_A_FIT:
            continue
        assert (
            fit["state"] == "collecting" and (await client.post(f"{path}/fit", json={"now": True})).status_code == 202
        )
        await until(partial(is_fitted, client, path), "the fit")
