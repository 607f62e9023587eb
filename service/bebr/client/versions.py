"""Code versions of a collection as flows: attach, evaluate, promote, roll back, backfill and retire. They return what
the API returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bebr.client import wire
from bebr.client.collections import collection_path
from bebr.client.frames import vector_pages
from bebr.client.points import BATCH_POINTS
from bebr.client.results import NOTHING_WRITTEN, WriteReport
from bebr.client.steps import Flow, Request, json_request


def list_versions(name: str) -> Flow[dict[str, Any]]:
    """The code versions of a collection with their points, their evaluations, and the history of promotions."""
    response = yield json_request("GET", _path(name))
    return _object(response)


def attach_version(name: str, bundle: str) -> Flow[dict[str, Any]]:
    """Attach a bundle as a new version, which is not used until it is promoted. Returns what `list_versions` returns.

    Raises AlreadyExists, BundleNotFound, and Incompatible if its queries could not search the existing codes.
    """
    response = yield json_request("POST", _path(name), {"bundle": bundle}, repeatable=False, patient=True)
    return _object(response)


def evaluate_version(
    name: str,
    version: str | None = None,
    *,
    queries: Sequence[Mapping[str, Any]] | None = None,
    sample: int | None = None,
    points: int | None = None,
    adapter: str | None = None,
    seed: int | None = None,
) -> Flow[dict[str, Any]]:
    """Evaluate a version, by default the newest that is not active. The result is stored for the gate of promotion.

    queries: `{"text" | "vectors": {version: vector}, "relevant": [ids] | {id: grade}}`; without them, `sample` points
    serve as queries. points: number of points to measure on. The new model embeds them, which takes seconds to minutes;
    the client waits as long as the connection lasts.
    """
    given = {"version": version, "sample": sample, "points": points, "adapter": adapter, "seed": seed}
    value: dict[str, Any] = {field: item for field, item in given.items() if item is not None}
    if queries is not None:
        value["queries"] = [_query(query) for query in wire.a_list(queries, "queries", "{'text': 'a'}")]
    response = yield json_request("POST", _path(name, "evaluate"), value, patient=True)
    return _object(response)


def promote_version(
    name: str, version: str, *, min_gain: float = 0.0, force: bool = False, adapter: str | None = None
) -> Flow[dict[str, Any]]:
    """Make a version active: queries and writes use its model from now on. Returns the event. Nothing is re-encoded.

    Raises Conflict, with the evaluation in its fields, unless the last evaluation shows a gain of at least `min_gain`.
    force: promote anyway. adapter: kind of adapter to the existing codes. Default: the one that measured best.
    """
    value = {"version": version, "gate": {"min_gain": min_gain}, "force": force} | (
        {"adapter": adapter} if adapter else {}
    )
    response = yield json_request("POST", _path(name, "promote"), value, repeatable=False)
    return _object(response)


def rollback_version(name: str) -> Flow[dict[str, Any]]:
    """Undo the last promotion and return the event. Points written or backfilled since then stay searchable."""
    response = yield json_request("POST", _path(name, "rollback"), repeatable=False)
    return _object(response)


def retire_version(name: str, version: str) -> Flow[dict[str, Any]]:
    """Retire a version. Returns what `list_versions` returns. Raises Conflict if a point has a code of it."""
    response = yield json_request("DELETE", _path(name, wire.segment(version, "version")), repeatable=False)
    return _object(response)


def backfill(name: str, version: str | None = None, *, rate_limit: float | None = None) -> Flow[str]:
    """Re-encode all points with the active version, from the texts that the collection keeps. Returns the job's id.

    rate_limit: maximum points per second. See `wait_job`, `pause_job`, `resume_job` and `cancel_job`.
    """
    given = {"version": version, "rate_limit": rate_limit}
    value = {field: item for field, item in given.items() if item is not None}
    response = yield json_request("POST", _path(name, "backfill"), value, repeatable=False)
    return str(response.json()["job"])


def backfill_vectors(
    name: str, version: str, ids: Sequence[str], vectors: ArrayLike, *, batch_points: int = 10 * BATCH_POINTS
) -> Flow[WriteReport]:
    """Re-encode existing points from vectors (points, dims) of the active version's model, in binary frames.

    Metadata does not change. The report lists ids that do not exist.
    """
    ids = wire.a_list(ids, "ids")
    matrix = wire.rows(ids, vectors, None)
    path, headers = _path(name, "backfill", "vectors"), {"content-type": wire.FRAME_TYPE}
    report = NOTHING_WRITTEN
    for part in vector_pages(matrix, batch_points):
        body = wire.frame({"dims": matrix.shape[1]}, ids[part], matrix[part], None)
        written = yield Request("POST", path, {"version": version}, headers, body)
        report = report.followed_by(WriteReport.from_json(written.json()), part.start)
    return report


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    """A query as the API expects it; vectors may be arrays."""
    sent = dict(query)
    if sent.get("vectors") is not None:
        sent["vectors"] = {version: np.asarray(vector).tolist() for version, vector in sent["vectors"].items()}
    return sent


def _path(name: str, *rest: str) -> str:
    return "/".join([collection_path(name), "versions", *rest])


def _object(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found
