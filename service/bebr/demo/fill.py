"""Put the docstrings into their collection, through the client like any other user.

A finished fill leaves a note in the data folder and is not looked at again. An unfinished one goes on: points that are
there already are not sent twice.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bebr.client import Client
from bebr.demo.corpus import Docstring, collect
from bebr.errors import BebrError, CollectionNotFound

COLLECTION = "python-docs"
MODEL = "minilm"
BUNDLE = "minilm@1"
FILTERABLE = {"package": "keyword", "kind": "keyword"}
QUESTION = "parse a date"
POINTS = 4000
"""Measured: 22 s on two cores, the conversion of the model included."""
BATCH_POINTS = 128

Progress = Callable[[int, int], None]
T = TypeVar("T")


def is_filled(client: Client, note: Path) -> bool:
    """Whether an earlier fill was finished and its collection is still there."""
    if not note.is_file():
        return False
    try:
        return client.count(COLLECTION) > 0
    except CollectionNotFound:
        return False


def fill(client: Client, note: Path, points: int = POINTS, progress: Progress = lambda done, total: None) -> int:
    """Fill the collection with up to `points` docstrings and leave a note; returns how many there are.

    `progress` is called with (points that are there, points wanted).
    """
    _create_if_missing(client)
    wanted = collect(points)
    missing = _missing(client, wanted)
    done = len(wanted) - len(missing)
    progress(done, len(wanted))
    for batch in _batches(missing, BATCH_POINTS):
        report = client.upsert(COLLECTION, [docstring.to_point() for docstring in batch])
        if report.rejected:
            first = report.items[0]
            raise BebrError(f"the service refused '{first.id}': {first.detail}")
        done += len(batch)
        progress(done, len(wanted))
    note.write_text(f"{COLLECTION} was filled with {done} docstrings; `bebr demo` does not look again.\n", "utf-8")
    return done


def _create_if_missing(client: Client) -> dict[str, Any]:
    try:
        return client.describe_collection(COLLECTION)
    except CollectionNotFound:
        return client.create_collection(COLLECTION, bundle=BUNDLE, filterable=FILTERABLE)


def _missing(client: Client, wanted: Sequence[Docstring]) -> list[Docstring]:
    """Those that an interrupted fill has not stored yet."""
    absent: set[str] = set()
    for batch in _batches(wanted, 1000):
        absent.update(client.get(COLLECTION, [docstring.name for docstring in batch], with_metadata=False).missing)
    return [docstring for docstring in wanted if docstring.name in absent]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))
