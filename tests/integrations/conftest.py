"""A running service for the suites of others."""

import os
from collections.abc import Iterator

import pytest
from tests.client.running import running_service

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before it is imported


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("service")) as service:
        yield service.url
