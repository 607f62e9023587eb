"""Shard clients for the contract: every implementation on a real store in a temporary folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.shards.clients import LocalClients, MakeClients


@pytest.fixture(params=[LocalClients])
async def clients(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeClients]:
    """Opens clients of one collection, one after the other, on the same store and the same files."""
    made: MakeClients = request.param(tmp_path)
    await made.start()
    yield made
    await made.stop()
