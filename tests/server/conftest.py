"""A service with one collection of a tiny bundle, for the tests of routes that take texts and vectors."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.server.bundles import TINY, write_tiny_bundle
from tests.server.service import DOCS, serving


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(folder, tmp_path_factory.mktemp("scratch"))
    return folder


@pytest.fixture
async def client(tmp_path: Path, bundles: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(tmp_path, bundles_dir=bundles) as client:
        answer = await client.put(DOCS, json={"bundle": TINY, "filterable": {"n": "integer"}})
        assert answer.status_code == 200, answer.text
        yield client
