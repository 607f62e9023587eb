"""What holds for every test."""

import functools
import logging
from collections.abc import Iterator

import hypothesis
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default as transports
from tests.waiting import PATIENCE_SECONDS

# Each client, and each `httpx.get`, would read all certificates anew: 20 ms, though nobody here speaks TLS.
transports.create_ssl_context = functools.cache(transports.create_ssl_context)
for part in ("connect", "read", "write", "pool"):  # httpx gives up after 5 s, where nobody says otherwise
    setattr(DEFAULT_TIMEOUT_CONFIG, part, PATIENCE_SECONDS)
hypothesis.settings.register_profile("any machine", deadline=None)  # 200 ms an example is not much on a busy one
hypothesis.settings.load_profile("any machine")


LONGEST = (
    "tests/cli/server/test_demo_upgrade.py",
    "tests/faults/",
    "tests/test_walkthroughs.py",
    "tests/cli/server/",
    "tests/kernel/test_arm.py",
)
"""Files that take longest, though they have few tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They begin first: where several processes share the files, none is to begin a long one when all others end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands of `bebr` that run in this process log to the error stream of their test, which ends with it."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before
