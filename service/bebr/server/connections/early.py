"""Answers that are given on the socket, before a request becomes a task: probes, and refusals of an overloaded service.

Under ten times the load that can be served, nine of ten requests are refused, so a refusal must cost next to nothing.
What is not refused here may still be refused where more is known of it.
"""

from collections.abc import Callable, Iterator, Sequence

from bebr.engine import Engine
from bebr.engine.admission import Lane
from bebr.engine.embedder import EVERYBODY
from bebr.errors import BebrError, Overloaded
from bebr.server.connections.refusals import alive, wire
from bebr.server.middleware.callers import HEADER, milliseconds
from bebr.server.middleware.request_ids import given_request_id
from bebr.server.openai import EMBEDDINGS_PATH

COLLECTIONS = b"/v1/collections/"
MAX_KEPT = 100


class EarlyAnswers:
    """Called with the method, path and headers of each request -> the whole answer, or None. Must not block."""

    def __init__(
        self, engine: Engine, on_refusal: Callable[[BebrError, str, str], None], request_ids: Iterator[bytes]
    ) -> None:
        """on_refusal: see `connection.Gate`."""
        self._engine = engine
        self._on_refusal = on_refusal
        self._request_ids = request_ids
        self._kept: dict[str, tuple[bytes, bytes]] = {}
        """Refusals without their request id, by their detail."""
        lanes = engine.admission
        self._lanes: dict[bytes, Lane] = {
            b"search": lanes.searches,
            b"search/batch": lanes.searches,
            b"points": lanes.writes,
            b"points/vectors": lanes.writes,
        }
        """By what follows the collection in the path."""

    def __call__(self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
        if method == b"POST":
            if path.startswith(COLLECTIONS):
                name, _, rest = path[len(COLLECTIONS) :].partition(b"/")
                lane = self._lanes.get(rest)
                if lane is not None and lane.is_busy:
                    key = self._engine.registry.key_of(name.decode("latin-1"))
                    return None if key is None else self._refusal(lane, key, headers)
            elif path == EMBEDDINGS_PATH.encode() and self._engine.admission.embeddings.is_busy:
                return self._refusal(self._engine.admission.embeddings, EVERYBODY, headers, EMBEDDINGS_PATH)
        elif path == b"/livez" and method == b"GET":
            return alive(given_request_id(headers) or next(self._request_ids))
        return None

    def _refusal(self, lane: Lane, key: str, headers: Sequence[tuple[bytes, bytes]], path: str = "") -> bytes | None:
        wait = lane.wait_seconds(key)
        given = next((value for name, value in headers if name == HEADER), None)
        try:
            timeout_seconds = None if given is None else milliseconds(given) / 1000
        except ValueError:
            return None  # the app says what is wrong with it
        if wait <= lane.allowed_seconds(timeout_seconds):
            lane.expect(key)
            return None
        lane.refused += 1
        error = lane.overloaded(wait)
        request_id = given_request_id(headers) or next(self._request_ids)
        self._on_refusal(error, "", request_id.decode())
        before, after = self._template(error, path)
        return before + request_id + after

    def _template(self, error: Overloaded, path: str) -> tuple[bytes, bytes]:
        kept = self._kept.get(error.detail)
        if kept is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            mark = b"the-request-id"
            before, _, after = wire(error, mark, path=path).partition(mark)
            kept = self._kept[error.detail] = (before, after)
        return kept
