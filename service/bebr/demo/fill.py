"""Fills the collection `python-docs` through the client, as any user would.

A finished fill leaves a note in the data folder and is not repeated. An interrupted one resumes: points that are stored
already are not sent again.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bebr.client import Client
from bebr.demo.corpus import Docstring, collect
from bebr.errors import BebrError, CollectionNotFound

COLLECTION = "python-docs"
MODEL = "minilm"
BUNDLE = "minilm@2"
"""Where the service has no version of the model that embeds texts."""
FILTERABLE = {"package": "keyword", "kind": "keyword"}
QUESTION = "parse a date"
POINTS = 4000
"""Enough for useful results, few enough for a quick first start."""
BATCH_POINTS = 128

Progress = Callable[[int, int], None]
T = TypeVar("T")


def is_filled(client: Client, note: Path) -> bool:
    """Whether an earlier fill finished and its collection still has points."""
    if not note.is_file():
        return False
    try:
        return client.count(COLLECTION) > 0
    except CollectionNotFound:
        return False


def fill(client: Client, note: Path, points: int = POINTS, progress: Progress = lambda done, total: None) -> int:
    """Fill the collection with up to `points` docstrings and leave a note. Returns the number of docstrings.

    `progress` is called with (points stored, points wanted).
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
    note.write_text(f"{COLLECTION} was filled with {done} docstrings; `bebr demo` does not fill it again.\n", "utf-8")
    return done


def _create_if_missing(client: Client) -> dict[str, Any]:
    try:
        return client.describe_collection(COLLECTION)
    except CollectionNotFound:
        return client.create_collection(COLLECTION, bundle=_bundle(client), filterable=FILTERABLE)


def _bundle(client: Client) -> str:
    """The latest version of the model on the service that embeds texts."""
    there = [bundle for bundle in client.list_bundles() if bundle["name"] == MODEL and bundle["text"]]
    numbered = [bundle for bundle in there if bundle["version"].isdecimal()]
    latest = max(numbered, key=lambda bundle: int(bundle["version"]), default={"id": BUNDLE})
    return str(latest["id"])


def _missing(client: Client, wanted: Sequence[Docstring]) -> list[Docstring]:
    """The docstrings that are not stored yet."""
    absent: set[str] = set()
    for batch in _batches(wanted, 1000):
        absent.update(client.get(COLLECTION, [docstring.name for docstring in batch], with_metadata=False).missing)
    return [docstring for docstring in wanted if docstring.name in absent]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[first : first + size] for first in range(0, len(items), size))
