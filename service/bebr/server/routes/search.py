"""The hot path: search, and batches of searches, as raw ASGI endpoints.

A FastAPI route parses with `json.loads`, validates and serializes through wrappers that cost more than a search of a
thousand points. Here pydantic parses and validates in one pass over the bytes, and the engine writes its answer itself.
`bench/http.py` measures the CPU per request.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from bebr.engine import Engine, SearchRequest
from bebr.engine.inputs import read_base64, read_vector, read_vector_b64
from bebr.errors import BebrError, InvalidCode, InvalidOption
from bebr.server import requests
from bebr.server.bodies import read_body
from bebr.server.validation import check_ids, parse, reject_unknown


class SearchEndpoint:
    """POST /v1/collections/{collection}/search."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _reject_query(scope)
        body = parse(requests.Search, await read_body(scope, receive, self._engine.limits.max_body_bytes))
        (result,) = await self._engine.search(scope["path_params"]["collection"], [to_request(body)])
        await _send_json(send, result.to_json_bytes())


class SearchBatchEndpoint:
    """POST /v1/collections/{collection}/search/batch: one scan for all searches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _reject_query(scope)
        limits = self._engine.limits
        searches = parse(requests.SearchBatch, await read_body(scope, receive, limits.max_body_bytes)).searches
        if len(searches) > limits.max_batch_searches:
            raise InvalidOption(
                f"searches: at most {limits.max_batch_searches} in one batch, got {len(searches)}", key="searches"
            )
        try:
            results = await self._engine.search(scope["path_params"]["collection"], _to_requests(searches))
        except BebrError as error:
            _name_search(error)
            raise
        await _send_json(send, b'{"results":[' + b",".join(result.to_json_bytes() for result in results) + b"]}")


class HotRoute(Route):
    """A Starlette route that stands in the scope as FastAPI's do, which is how metrics know its template."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


def to_request(body: requests.Search) -> SearchRequest:
    """The validated body -> what the engine takes. The engine checks that exactly one source is given.

    Raises InvalidVector and InvalidCode for wrong base64, InvalidId.
    """
    if body.vector is not None and body.vector_b64 is not None:
        raise InvalidOption("give vector or vector_b64, not both", key="vector_b64")
    return SearchRequest(
        text=body.text,
        vector=_vector(body),
        code=None if body.code_b64 is None else read_base64(body.code_b64, "code_b64", InvalidCode),
        id=None if body.id is None else check_ids([body.id], "id")[0],
        limit=body.limit,
        offset=body.offset,
        scorer=body.scorer,
        filter=body.filter,
        score_threshold=body.score_threshold,
        with_metadata=body.with_metadata,
        with_code=body.with_code,
        version=body.version,
        group_by=body.group_by,
        group_size=body.group_size,
        cursor=body.cursor,
        explain=body.explain,
    )


def _to_requests(searches: Sequence[requests.Search]) -> list[SearchRequest]:
    requests: list[SearchRequest] = []
    try:
        for body in searches:
            requests.append(to_request(body))
    except BebrError as error:
        error.fields["search"] = len(requests)
        raise
    return requests


def _name_search(error: BebrError) -> None:
    """Turn the number of the search that failed into a path, as in 'searches[3].limit'."""
    number = error.fields.pop("search", None)
    if number is None:
        return
    place = f"searches[{number}]"
    name = "at" if "at" in error.fields else "key"
    error.detail = f"{place}: {error.detail}"
    error.fields[name] = f"{place}.{error.fields[name]}" if name in error.fields else place


def _vector(body: requests.Search) -> NDArray[np.float32] | None:
    if body.vector is not None:
        return read_vector(body.vector)
    return None if body.vector_b64 is None else read_vector_b64(body.vector_b64)


def _reject_query(scope: Scope) -> None:
    if scope["query_string"]:
        names = [part.partition("=")[0] for part in scope["query_string"].decode("latin-1").split("&")]
        reject_unknown(names, (), "query parameter")


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
