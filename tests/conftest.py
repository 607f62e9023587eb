"""What holds for every test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Commands of `bebr` that run in this process log to the error stream of their test, which ends with it."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before
