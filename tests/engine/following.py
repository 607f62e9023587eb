"""A primary and a follower of one store, in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from tests.engine.running import running_jobs, settings
from tests.servers import Server

from bebr.bootstrap import build_engine
from bebr.core.types import Role
from bebr.engine import Engine
from bebr.engine.statuses import CollectionStatus
from bebr.jobs import JobQueue

OWN = {"shards", "memory_bytes", "commits", "commit_seconds", "rebuilds", "losses", "behind", "coverage", "lists"}
"""What a process says of itself. Which points are in lists, each knows of the files that it has read so far."""


class Pair(NamedTuple):
    primary: Engine
    jobs: JobQueue
    follower: Engine


@asynccontextmanager
async def pair(folder: Path, **changes: Any) -> AsyncIterator[Pair]:
    """Both are ready."""
    async with (
        running_jobs(folder, shares=True, **changes) as (primary, jobs),
        following(folder, **changes) as follower,
    ):
        yield Pair(primary, jobs, follower)


@asynccontextmanager
async def following(folder: Path, **changes: Any) -> AsyncIterator[Engine]:
    follower = build_engine(settings(folder, **changes), Role.FOLLOWER)
    await follower.start()
    try:
        await follower.wait_until_ready()
        yield follower
    finally:
        await follower.stop()


def store_of(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of the store that a test is parametrized with: 'sqlite' or 'redis'."""
    if request.param == "sqlite":
        return {}
    server: Server = request.getfixturevalue("redis_server")
    return {"redis_url": server.url, "redis_prefix": f"t{uuid4().hex}"}


async def agree(two: Pair) -> None:
    """The follower says of all collections and aliases what the primary said just before."""
    while True:
        wanted = said_by(two.primary)
        await two.follower.keep_up()
        said = said_by(two.follower)
        if said_by(two.primary) == wanted:  # else something goes on there, and was followed or not
            break
    assert list(said) == list(wanted)
    for name, other in wanted.items():
        differing = {key: (value, other[key]) for key, value in said[name].items() if value != other[key]}
        assert not differing, (name, differing)


def said_by(engine: Engine) -> dict[str, dict[str, Any]]:
    """What all processes say alike of collections and aliases."""
    said = {one.name: told(one) for one in engine.list_collections()}
    for name, about in said.items():
        if about["ready"]:
            about["versions"] = engine.versions.describe(name)
    return said | {"": engine.list_aliases()}


def told(status: CollectionStatus) -> dict[str, Any]:
    return {field.name: getattr(status, field.name) for field in fields(status) if field.name not in OWN}
