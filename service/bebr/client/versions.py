"""Code versions of a collection: another model is attached, measured, promoted or rolled back, and points are encoded
by it. What comes back is what the API answers."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike

from bebr.client import wire
from bebr.client.operations import BATCH_POINTS, collection_path, vector_pages
from bebr.client.results import NOTHING_WRITTEN, WriteReport
from bebr.client.steps import Flow, Request, json_request


def list_versions(name: str) -> Flow[dict[str, Any]]:
    """The code versions of a collection with the points of each, what was measured, and what became active when."""
    response = yield json_request("GET", _path(name))
    return _object(response)


def attach_version(name: str, bundle: str) -> Flow[dict[str, Any]]:
    """Make a bundle's codes one more version, which nothing uses until it is promoted; returns as `list_versions` does.

    Raises AlreadyExists, BundleNotFound, and Incompatible where its queries could not search the codes that there are.
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
    """Measure what a version would find, the newest that is not active unless one is named; it is kept for the gate.

    queries: `{"text" | "vectors": {version: vector}, "relevant": [ids] | {id: grade}}`; without them `sample` of the
    points stand in for queries. points: how many to measure on. The new model embeds them, which takes seconds to
    minutes: the answer is waited for as long as the connection lasts.
    """
    given = {"version": version, "sample": sample, "points": points, "adapter": adapter, "seed": seed}
    value: dict[str, Any] = {field: item for field, item in given.items() if item is not None}
    if queries is not None:
        value["queries"] = [_query(query) for query in queries]
    response = yield json_request("POST", _path(name, "evaluate"), value, patient=True)
    return _object(response)


def promote_version(
    name: str, version: str, *, min_gain: float = 0.0, force: bool = False, adapter: str | None = None
) -> Flow[dict[str, Any]]:
    """Make queries and writes go by a version from now on; returns the event. Nothing is re-encoded.

    Raises Conflict unless the last evaluation found a gain of at least `min_gain`; its fields then hold the evaluation.
    force: promote all the same. adapter: kind of adapter to the existing codes. Default: the one that measured best.
    """
    value = {"version": version, "gate": {"min_gain": min_gain}, "force": force} | (
        {"adapter": adapter} if adapter else {}
    )
    response = yield json_request("POST", _path(name, "promote"), value, repeatable=False)
    return _object(response)


def rollback_version(name: str) -> Flow[dict[str, Any]]:
    """Undo the last promotion; returns the event. Points that were written or backfilled since are found as well."""
    response = yield json_request("POST", _path(name, "rollback"), repeatable=False)
    return _object(response)


def retire_version(name: str, version: str) -> Flow[dict[str, Any]]:
    """Forget a version that no point has a code of; returns as `list_versions` does. Raises Conflict else."""
    response = yield json_request("DELETE", _path(name, quote(version, safe="")), repeatable=False)
    return _object(response)


def backfill(name: str, version: str | None = None, *, rate_limit: float | None = None) -> Flow[str]:
    """Re-encode all points as the active version, from the texts that the collection keeps; returns the id of the job.

    rate_limit: points a second at most. `wait_job` follows the job, `pause_job`, `resume_job`, `cancel_job` steer it.
    """
    given = {"version": version, "rate_limit": rate_limit}
    value = {field: item for field, item in given.items() if item is not None}
    response = yield json_request("POST", _path(name, "backfill"), value, repeatable=False)
    return str(response.json()["job"])


def backfill_vectors(
    name: str, version: str, ids: Sequence[str], vectors: ArrayLike, *, batch_points: int = 10 * BATCH_POINTS
) -> Flow[WriteReport]:
    """Give points that exist codes of these vectors (points, dims), which the model of the active version made.

    They go in binary frames. Metadata stays as it is. Ids that do not exist are named in the report.
    """
    matrix = wire.rows(ids, vectors, None)
    path, headers = _path(name, "backfill", "vectors"), {"content-type": wire.FRAME_TYPE}
    report = NOTHING_WRITTEN
    for part in vector_pages(matrix, batch_points):
        body = wire.frame(ids[part], matrix[part], None)
        written = yield Request("POST", path, {"version": version}, headers, body)
        report = report.followed_by(WriteReport.from_json(written.json()), part.start)
    return report


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    """A query as the API takes it: vectors may be arrays."""
    sent = dict(query)
    if sent.get("vectors") is not None:
        sent["vectors"] = {version: np.asarray(vector).tolist() for version, vector in sent["vectors"].items()}
    return sent


def _path(name: str, *rest: str) -> str:
    return "/".join([collection_path(name), "versions", *rest])


def _object(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found
