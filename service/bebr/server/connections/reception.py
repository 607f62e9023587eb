"""What becomes of a request once its head has come: an answer at once, or a place in a lane, before it is a task.

Probes and the refusals of an overloaded service are answered here. Under ten times the load that can be served, nine of
ten are refused, so a refusal must cost next to nothing: requests like one that was refused of late are not even parsed.
What is let in may still be refused where more is known of it.
"""

import re
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
MAX_TARGET_BYTES = 1000
_OTHER_HEADER = (
    rb"(?!content-length|transfer-encoding|expect|upgrade|x-timeout-ms|x-request-id|connection:(?! ?keep-alive\r))"
    rb"[!-9;-~]++:[ -~]*+\r\n"
)
_PLAIN_HEAD = re.compile(
    rb"[A-Z]++ [!-~]++ HTTP/1\.1\r\n(?:%s)*+content-length: ?(\d{1,9})\r\n(?:%s)*+\r\n"
    % (_OTHER_HEADER, _OTHER_HEADER),
    re.IGNORECASE,
)
"""A head that nobody could read in two ways, and without anything that an answer depends on."""
Headers = Sequence[tuple[bytes, bytes]]


class Ticket:
    """A request's place in a lane that counts whole requests: from when all of it has come until it is answered."""

    __slots__ = ("_inside", "key", "lane")

    def __init__(self, lane: Lane, key: str) -> None:
        self.lane = lane
        self.key = key
        self._inside = False

    def enter(self) -> None:
        """All of it has come: from now on it waits for the service, and not the service for it."""
        self.lane.enter(self.key, 1)
        self._inside = True

    def leave(self, answered: bool) -> None:
        """It was answered, or its caller has left."""
        if self._inside:
            self.lane.leave(self.key, 1, answered)
            self._inside = False


class Reception:
    """Receives requests. Must not block."""

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
            b"search": lanes.search_requests,
            b"search/batch": lanes.search_requests,
            b"points": lanes.write_requests,
            b"points/vectors": lanes.write_requests,
        }
        """By what follows the collection in the path."""
        self._refused: dict[bytes, tuple[Ticket, str]] = {}
        """By method and path: what was refused of late, with the path for its errors."""

    def refuse_unparsed(self, data: bytes) -> bytes | None:
        """What came on a connection at rest -> a refusal, where it is one whole request that would be refused."""
        target = data[: data.find(b" HTTP/1.1\r\n", 0, MAX_TARGET_BYTES)]
        if (found := self._refused.get(target)) is None:
            return None
        ticket, path = found
        wait = ticket.lane.wait_seconds(ticket.key)
        if wait <= ticket.lane.allowed_seconds(None):
            del self._refused[target]
            return None
        head = _PLAIN_HEAD.match(data)
        if head is None or head.end() + int(head[1]) != len(data):
            return None
        return self._refusal(ticket.lane, wait, path, next(self._request_ids))

    def receive(self, method: bytes, path: bytes, headers: Headers) -> bytes | Ticket | None:
        """The head of a request -> the whole answer, or the place of the request in its lane, or None: it has none."""
        if method == b"POST":
            if path.startswith(COLLECTIONS):
                name, _, rest = path[len(COLLECTIONS) :].partition(b"/")
                if (lane := self._lanes.get(rest)) is not None:
                    key = self._engine.registry.key_of(name.decode("latin-1"))
                    return None if key is None else self._receive(lane, key, path, headers)
            elif path == EMBEDDINGS_PATH.encode():
                return self._receive(self._engine.admission.embedding_requests, EVERYBODY, path, headers)
        elif path == b"/livez" and method == b"GET":
            return alive(given_request_id(headers) or next(self._request_ids))
        return None

    def _receive(self, lane: Lane, key: str, path: bytes, headers: Headers) -> bytes | Ticket:
        ticket, wait = Ticket(lane, key), lane.wait_seconds(key)
        if not wait or wait <= lane.allowed_seconds(_timeout_seconds(headers)):
            return ticket
        path_of_error = EMBEDDINGS_PATH if lane is self._engine.admission.embedding_requests else ""
        if len(self._refused) >= MAX_KEPT:
            self._refused.clear()
        self._refused[b"POST " + path] = (ticket, path_of_error)
        return self._refusal(lane, wait, path_of_error, given_request_id(headers) or next(self._request_ids))

    def _refusal(self, lane: Lane, wait: float, path: str, request_id: bytes) -> bytes:
        lane.refused += 1
        error = lane.overloaded(wait)
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


def _timeout_seconds(headers: Headers) -> float | None:
    """How long the caller waits, if it said so."""
    given = next((value for name, value in headers if name == HEADER), None)
    try:
        return None if given is None else milliseconds(given) / 1000
    except ValueError:
        return None  # the app says what is wrong with it
