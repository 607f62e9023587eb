"""What holds for every test."""

import logging
from collections.abc import Iterator

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from tests.waiting import PATIENCE_SECONDS

for part in ("connect", "read", "write", "pool"):  # httpx gives up after 5 s, where nobody says otherwise
    setattr(DEFAULT_TIMEOUT_CONFIG, part, PATIENCE_SECONDS)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands of `bebr` that run in this process log to the error stream of their test, which ends with it."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before
