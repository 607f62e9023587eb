"""Fitting a binarizer to a collection: request a fit, and wait until it is done."""

from collections.abc import Callable
from typing import Any

from bebr.client.collections import collection_path, describe_collection
from bebr.client.steps import Flow, Pause, json_request
from bebr.errors import InvalidOption

FIRST_POLL_SECONDS, POLL_SECONDS = 0.1, 1.0
ENDS = ("done", "failed", "cancelled")
Progress = Callable[[dict[str, Any]], None]
"""Called with the state of the fit."""


def fit_collection(
    name: str,
    *,
    bytes: int | None = None,
    rescore_bytes: int | None = None,
    sample: int | None = None,
    cpu_seconds: float | None = None,
    now: bool = False,
    source: str | None = None,
) -> Flow[dict[str, Any]]:
    """Fit a new binarizer to the next `sample` points of a collection or, with `now`, to those collected so far.

    bytes: per code in memory; rescore_bytes: per finer code on disk, 0 for none. What is None stays as it was.
    cpu_seconds: that the fit may take, about; None: what suits the dims.
    source: 'codes' fits to what the rescore codes of the points stand for and gives all of them new codes; 'sample'
    fits to the embeddings that are kept of some points; None to the next points.
    Returns the state of the fit, as `describe_collection` does under 'fit'. Raises Conflict while a fit is running.
    """
    given: dict[str, float | str | None] = {
        "bytes": bytes,
        "rescore_bytes": rescore_bytes,
        "sample": sample,
        "now": now or None,
        "from": source,
        "cpu_seconds": cpu_seconds,
    }
    value = {field: item for field, item in given.items() if item is not None}
    response = yield json_request("POST", f"{collection_path(name)}/fit", value, repeatable=False)
    fit: dict[str, Any] = response.json()["fit"]
    return fit


def wait_fit(
    name: str, *, progress: Progress | None = None, poll_seconds: float = POLL_SECONDS
) -> Flow[dict[str, Any]]:
    """Wait until the fit of a collection is done, has failed or was cancelled; it is done when no point is buffered.

    While a fit is collecting, somebody must write points. Raises InvalidOption when the collection has no fit.
    """
    pause = min(FIRST_POLL_SECONDS, poll_seconds)
    while True:
        fit: dict[str, Any] | None = (yield from describe_collection(name))["fit"]
        if fit is None:
            raise InvalidOption(f"collection '{name}' has no fit; request one with fit_collection", key="fit")
        if progress is not None:
            progress(fit)
        if fit["state"] in ENDS:
            return fit
        yield Pause(pause)
        pause = min(2 * pause, poll_seconds)
