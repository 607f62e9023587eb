"""Of the services that share a store one makes the lists of a collection, and the others take them."""

import logging
from pathlib import Path
from uuid import uuid4

import pytest
from tests.engine.running import running_jobs
from tests.jobs.test_list_upkeep import FEW, make, write
from tests.servers import ServerKind, running_server
from tests.waiting import until


async def test_lists_are_made_once_and_by_the_next_one_where_the_first_has_died(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(ServerKind.VALKEY) as server:
        shared = {**FEW, "redis_url": server.url, "redis_prefix": f"t{uuid4().hex}", "shared_store": True}
        async with (
            running_jobs(tmp_path / "1", **shared) as (one, _),
            running_jobs(tmp_path / "2", **shared) as (two, _),
        ):
            collection = await make(one)
            task = f"lists-{collection.document.uid}"
            token = await one.store.take_lease(task, "a service that has died", 600)
            assert token is not None
            await write(one, range(800))
            await two.look_for("docs")
            other = two.registry.get("docs")
            await other.shards.reach_store()
            assert one.lists.due(collection) is not None and two.lists.due(other) is not None
            assert "lists made" not in caplog.messages
            await one.store.release_lease(task, token)
            await until(lambda: collection.centroids.newest(0) and other.centroids.newest(0), "both have lists")
            await until(lambda: one.lists.due(collection) is None and two.lists.due(other) is None, "none is due")
            await until(lambda: not other.shards.list_stats(0).unsorted, "the rows of both are sorted by them")
            await until(lambda: not collection.shards.list_stats(0).unsorted, "the rows of both are sorted by them")
            assert caplog.messages.count("lists made") == 1
