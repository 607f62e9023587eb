"""Search, and batches of searches: the hot path, as raw ASGI endpoints.

A FastAPI route parses with `json.loads`, validates and serializes through wrappers that cost more than a search of a
thousand points. Here pydantic parses and validates in one pass over the bytes, and the answer is written by hand.
`bench/http.py` measures the CPU per request.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from bebr.engine import Engine, SearchRequest
from bebr.engine.answers import INLINE_BYTES
from bebr.engine.inputs import read_base64, read_vector, read_vector_b64
from bebr.errors import (
    AnswerTooLarge,
    BebrError,
    Conflict,
    DeadlineExceeded,
    DimensionMismatch,
    Incompatible,
    InvalidCode,
    InvalidFilter,
    InvalidOption,
    InvalidText,
    InvalidVector,
    Overloaded,
    PointNotFound,
)
from bebr.server.access import Access
from bebr.server.bodies.body import JSON, parse, read_body
from bebr.server.bodies.large_bodies import parse_items
from bebr.server.connections.repeats import FOUND, REPEATABLE, start_of
from bebr.server.openapi import COLLECTION, Errors, Operation
from bebr.server.requests.search import Rescore, Search, SearchBatch
from bebr.server.responses.base import written
from bebr.server.responses.search import SearchAnswer, SearchBatchAnswer, search_batch_json, search_json
from bebr.server.routes.plain_search import read_plain
from bebr.server.validation import check_ids, reject_unknown

PATH = "/v1/collections/{collection}/search"
_ERRORS: Errors = (
    InvalidText,
    InvalidVector,
    InvalidCode,
    InvalidFilter,
    DimensionMismatch,
    PointNotFound,
    Conflict,
    Incompatible,
    AnswerTooLarge,
    Overloaded,
    DeadlineExceeded,
    *COLLECTION,
)
SEARCH = Operation(
    "Search",
    "search",
    SearchAnswer,
    access=Access.READ,
    errors=_ERRORS,
    body={JSON: Search},
    description="By text, vector, code, or the id of a stored point. With a filter, the answer still has `limit` hits "
    "if that many points match.",
)
SEARCH_BATCH = Operation(
    "Search many at once",
    "search",
    SearchBatchAnswer,
    access=Access.READ,
    errors=_ERRORS,
    body={JSON: SearchBatch},
    description="One scan for all searches. If one of them is invalid, the batch fails.",
)


def hot_routes(engine: Engine) -> "list[HotRoute]":
    return [
        HotRoute(PATH, SearchEndpoint(engine), "search", SEARCH),
        HotRoute(f"{PATH}/batch", SearchBatchEndpoint(engine), "search_batch", SEARCH_BATCH),
    ]


class SearchEndpoint:
    """Answers SEARCH."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found: bytes | Exception | None = scope.pop(FOUND, None)
        if found is None:
            _reject_query(scope)
            body = await read_body(scope, receive, self._engine.limits.max_query_bytes)
            (found,) = await self.find(scope, [self.read(body) or to_request(parse(Search, body))])
            scope[REPEATABLE] = self
        elif isinstance(found, Exception):
            raise found
        await _send_json(send, found)

    def read(self, body: bytes) -> SearchRequest | None:
        return read_plain(body)

    def gathers(self, request: SearchRequest) -> bool:
        return request.vector is not None  # texts are gathered where they are embedded

    async def find(self, scope: Scope, requests: Sequence[SearchRequest]) -> list[bytes]:
        found = await self._engine.search(scope["path_params"]["collection"], requests)
        if sum([result.size_bytes for result in found]) <= INLINE_BYTES:
            return [search_json(result) for result in found]
        return [await written(result.size_bytes, search_json, result) for result in found]


class SearchBatchEndpoint:
    """Answers SEARCH_BATCH."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _reject_query(scope)
        limits = self._engine.limits
        body = await read_body(scope, receive, limits.max_batch_bytes)
        searches = (await parse_items(SearchBatch, body, "searches", limits.max_batch_searches, Search)).searches
        if len(searches) > limits.max_batch_searches:
            raise InvalidOption(
                f"searches: at most {limits.max_batch_searches} in one batch, got {len(searches)}", key="searches"
            )
        try:
            found = await self._engine.search(scope["path_params"]["collection"], _to_requests(searches))
        except BebrError as error:
            _name_search(error)
            raise
        size_bytes = sum(result.size_bytes for result in found)
        await _send_json(send, await written(size_bytes, search_batch_json, found))


class HotRoute(Route):
    """A Starlette route that documents itself, and is in the scope as FastAPI's routes are: metrics need its path."""

    def __init__(self, path: str, endpoint: Any, name: str, operation: Operation) -> None:
        super().__init__(path, endpoint, methods=["POST"], name=name)
        self._operation = operation
        self.openapi_extra = operation.extra()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}

    def document(self) -> dict[str, Any]:
        """Its operation object in the OpenAPI document."""
        parameter = {"name": "collection", "in": "path", "required": True, "schema": {"type": "string"}}
        return self._operation.document(self.name, [parameter])


def to_request(body: Search) -> SearchRequest:
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
        rescore=body.rescore if body.rescore is None or isinstance(body.rescore, bool) else True,
        candidates=body.rescore.candidates if isinstance(body.rescore, Rescore) else None,
        exact=body.exact,
        recall=body.recall,
        min_seq=body.min_seq,
        strong=body.consistency is not None,
        explain=body.explain,
    )


def _to_requests(searches: Sequence[Search]) -> list[SearchRequest]:
    read: list[SearchRequest] = []
    try:
        for body in searches:
            read.append(to_request(body))
    except BebrError as error:
        error.fields["search"] = len(read)
        raise
    return read


def _name_search(error: BebrError) -> None:
    """Turn the number of the search that failed into a path, as in 'searches[3].limit'."""
    number = error.fields.pop("search", None)
    if number is None:
        return
    place = f"searches[{number}]"
    name = "at" if "at" in error.fields else "key"
    error.detail = f"{place}: {error.detail}"
    error.fields[name] = f"{place}.{error.fields[name]}" if name in error.fields else place


def _vector(body: Search) -> NDArray[np.float32] | None:
    if body.vector is not None:
        return read_vector(body.vector)
    return None if body.vector_b64 is None else read_vector_b64(body.vector_b64)


def _reject_query(scope: Scope) -> None:
    if scope["query_string"]:
        names = [part.partition("=")[0] for part in scope["query_string"].decode("latin-1").split("&")]
        reject_unknown(names, (), "query parameter")


async def _send_json(send: Send, body: bytes) -> None:
    await send(start_of(body))
    await send({"type": "http.response.body", "body": body})
