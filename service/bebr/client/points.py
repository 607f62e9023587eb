"""Points: written, read and searched, and texts embedded. Each operation is written once as a flow: build the request,
read the response. `clients` turns each into a blocking and an asynchronous method. Names are those of the API."""

import base64
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.client import wire
from bebr.client.collections import collection_path
from bebr.client.results import NOTHING_WRITTEN, Fetched, Page, Point, SearchResult, WriteReport
from bebr.client.steps import Flow, Request, json_request
from bebr.client.values import check_keys
from bebr.core.scoring import Scorer
from bebr.core.types import WriteMode
from bebr.errors import BebrError, InvalidOption

Filter = Mapping[str, Any]
BATCH_POINTS = 1000


class SearchOptions(TypedDict, total=False):
    """Options of a search. The service chooses the default of an option that is left out.

    vector (dims,), code (a stored record) or id (find similar points) take the place of a text. rescore: whether the
    best candidates are scored again by their rescore codes, or how many are: `{"candidates": 100}`. exact: compare all
    codes; recall: the share of the exact hits to find, 0.5 to 0.999. min_seq: the `seq` of a write that the search must
    see where another machine took it; consistency: "strong" to see all that the store has.
    """

    vector: ArrayLike
    code: bytes
    id: str
    limit: int
    offset: int
    scorer: Scorer | str
    filter: Filter
    score_threshold: float
    with_metadata: bool | Sequence[str]
    with_code: bool
    version: str
    group_by: str
    group_size: int
    cursor: str
    rescore: bool | Mapping[str, int]
    exact: bool
    recall: float
    min_seq: Mapping[str, int]
    consistency: str
    explain: bool


class Search(SearchOptions, total=False):
    """One search of a batch: exactly one of text, vector, code and id."""

    text: str


def upsert(
    collection: str,
    points: Iterable[Mapping[str, Any]],
    *,
    mode: WriteMode | str = WriteMode.UPSERT,
    version: str | None = None,
    batch_points: int = BATCH_POINTS,
    idempotency_key: str | None = None,
) -> Flow[WriteReport]:
    """Write points: `{"id", "text" | "vector" | "code", "metadata"}`; vectors may be numpy arrays, codes are bytes.

    Valid points are applied; the report lists invalid ones. Long inputs are sent in batches, each durable when it
    returns. version: code version of the vectors and codes; raises Incompatible if another version is active.
    `fields` of an error say what was written before it: `before` counts the points that were sent, `applied_before`
    those that were applied; `items` counts from the first point of all. The same call with an idempotency_key of yours
    goes on from there.
    """
    if isinstance(points, str | bytes | Mapping):
        raise InvalidOption(f"points: expected a list of points, got {points!r:.80}", key="points")
    path, key = f"{collection_path(collection)}/points", idempotency_key or uuid.uuid4().hex
    report = NOTHING_WRITTEN
    iterator = iter(points)
    first = 0
    while batch := list(islice(iterator, batch_points)):
        body, positions, errors = wire.points_body(batch)
        part = WriteReport(0, len(errors), errors, {})
        if positions:
            with after(report, first, positions):
                written = yield write_request(path, body, mode, version, f"{key}-{first}")
            part = WriteReport.from_json(written.json()).joined(positions, errors)
        report = report.followed_by(part, first)
        first += len(batch)
    return report


@contextmanager
def after(report: WriteReport, first: int, positions: Sequence[int]) -> Iterator[None]:
    """Let an error say what the batches before it did. positions: in its own batch, of the points that were sent."""
    try:
        yield
    except BebrError as error:
        error.fields |= {"before": first, "applied_before": report.applied}
        for item in error.fields.get("items", ()):
            item["index"] = first + positions[item["index"]]
        raise


def get_point(collection: str, id: str) -> Flow[Point]:
    """One point. Raises PointNotFound."""
    response = yield json_request("GET", f"{collection_path(collection)}/points/{wire.segment(id, 'id')}")
    return Point.from_json(response.json())


def get(
    collection: str, ids: Sequence[str], *, with_metadata: bool | Sequence[str] = True, with_code: bool = False
) -> Flow[Fetched]:
    """Points by id. Ids that do not exist are listed as missing."""
    value = {"ids": wire.a_list(ids, "ids"), "with_metadata": _wanted(with_metadata), "with_code": with_code}
    response = yield json_request("POST", f"{collection_path(collection)}/points/get", value)
    found = response.json()
    return Fetched([Point.from_json(point) for point in found["points"]], found["missing"])


def delete(
    collection: str, ids: Sequence[str] | None = None, *, filter: Filter | None = None, dry_run: bool = False
) -> Flow[int]:
    """Delete points by ids or by filter and return their number. A dry run only counts them."""
    value = _chosen(ids, filter) | ({"dry_run": True} if dry_run else {})
    response = yield json_request("POST", f"{collection_path(collection)}/points/delete", value)
    return int(response.json()["would_delete" if dry_run else "deleted"])


def set_metadata(
    collection: str, changes: Mapping[str, Any], ids: Sequence[str] | None = None, *, filter: Filter | None = None
) -> Flow[int]:
    """Set metadata fields of points by ids or by filter and return the number of points."""
    check_keys(changes)
    value = _chosen(ids, filter) | {"set": dict(changes)}
    response = yield json_request("POST", f"{collection_path(collection)}/points/metadata", value)
    return int(response.json()["updated"])


def count(
    collection: str,
    filter: Filter | None = None,
    *,
    min_seq: Mapping[str, int] | None = None,
    consistency: str | None = None,
) -> Flow[int]:
    """The number of points, or of those that match the filter. min_seq and consistency: as in a search."""
    given = {"filter": filter, "min_seq": min_seq, "consistency": consistency}
    value = {name: item for name, item in given.items() if item is not None}
    response = yield json_request("POST", f"{collection_path(collection)}/points/count", value)
    return int(response.json()["count"])


def scroll_page(
    collection: str,
    filter: Filter | None = None,
    *,
    limit: int = BATCH_POINTS,
    cursor: str | None = None,
    with_metadata: bool | Sequence[str] = True,
    min_seq: Mapping[str, int] | None = None,
    consistency: str | None = None,
) -> Flow[Page]:
    """One page of all points in a stable order. min_seq and consistency: as in a search."""
    given = {"filter": filter, "limit": limit, "cursor": cursor, "with_metadata": _wanted(with_metadata)}
    given |= {"min_seq": min_seq, "consistency": consistency}
    value = {name: item for name, item in given.items() if item is not None}
    response = yield json_request("POST", f"{collection_path(collection)}/points/scroll", value)
    found = response.json()
    return Page([Point.from_json(point) for point in found["points"]], found["cursor"])


def search(collection: str, text: str | None = None, **options: Unpack[SearchOptions]) -> Flow[SearchResult]:
    """The points nearest to a text, or to a vector, code or id; see `SearchOptions`."""
    body = _search_json(options if text is None else {"text": text, **options})
    response = yield json_request("POST", f"{collection_path(collection)}/search", body)
    return SearchResult.from_json(response.json())


def search_batch(collection: str, searches: Sequence[Search]) -> Flow[list[SearchResult]]:
    """Many searches in one request and one scan. Results are in the same order."""
    body = {"searches": [_search_json(search) for search in wire.a_list(searches, "searches", "{'text': 'a'}")]}
    response = yield json_request("POST", f"{collection_path(collection)}/search/batch", body)
    return [SearchResult.from_json(result) for result in response.json()["results"]]


def embed(texts: Sequence[str], *, model: str | None = None, query: bool = False) -> Flow[NDArray[np.float32]]:
    """texts -> embeddings (texts, dims) float32 of a bundle's embedding model, as passages or as queries."""
    body = {
        "input": wire.a_list(texts, "texts", "'a text'"),
        "encoding_format": "base64",
        "kind": "query" if query else "passage",
    }
    if model is not None:
        body["model"] = model
    response = yield json_request("POST", "/v1/embeddings", body)
    rows = sorted(response.json()["data"], key=lambda row: int(row["index"]))
    return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows])


def write_request(
    path: str,
    body: bytes,
    mode: WriteMode | str,
    version: str | None,
    key: str,
    content_type: str = "application/json",
) -> Request:
    headers = {"content-type": content_type, "idempotency-key": key}
    declared = {} if version is None else {"version": version}
    return Request("POST", path, {"mode": str(mode), **declared}, headers, body)


def _search_json(search: Mapping[str, Any]) -> dict[str, Any]:
    body = wire.point_json(search)
    if "with_metadata" in body:
        body["with_metadata"] = _wanted(body["with_metadata"])
    return body


def _wanted(fields: bool | Sequence[str]) -> bool | list[str]:
    """What of the metadata is wanted; a bare name is an error, never its letters."""
    return fields if isinstance(fields, bool) else wire.a_list(fields, "with_metadata", "'lang'")


def _chosen(ids: Sequence[str] | None, filter: Filter | None) -> dict[str, Any]:
    """Ids, a filter, or both, which the service validates; an empty list must not turn into 'all'."""
    return ({} if ids is None else {"ids": wire.a_list(ids, "ids")}) | (
        {} if filter is None else {"filter": dict(filter)}
    )
