"""A running service, and its OpenAPI document as a file, for clients that are generated from it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.server.bundles import write_tiny_bundle
from tests.server.service import settings

from bebr.cli.server.running import Service


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    write_tiny_bundle(folder / "bundles", folder)
    with Service(settings(folder, port=0)) as service:
        yield service.url


@pytest.fixture(scope="module")
def document(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(httpx.get(f"{url}/openapi.json").content)
    return path
