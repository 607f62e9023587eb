"""Stores for the tests of this folder: every contract test runs on SQLite, a real Redis and a real Valkey."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.servers import Server, ServerKind, running_server
from tests.store.points import MakeStore

from bebr.store import MetadataStore
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    with running_server(ServerKind.REDIS) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    with running_server(ServerKind.VALKEY) as server:
        yield server


@pytest.fixture(params=["sqlite", *ServerKind])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes stores, not opened yet, that all hold the same data; of SQLite only one may be open at a time."""
    if request.param == "sqlite":
        return lambda **options: SqliteStore(tmp_path / "store", **options)
    server: Server = request.getfixturevalue(f"{request.param}_server")
    prefix = f"test-{uuid4().hex}"
    return lambda **options: RedisStore(server.url, prefix=prefix, **{"timeout_seconds": 60} | options)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[MetadataStore]:
    store = make_store()
    await store.open()
    yield store
    await store.close()
