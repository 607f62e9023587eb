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
from bebr.server.connections.key_limits import KeyLimits
from bebr.server.connections.refusals import alive, wire
from bebr.server.middleware.callers import HEADER, milliseconds
from bebr.server.middleware.request_ids import given_request_id
from bebr.server.openai import EMBEDDINGS_PATH, is_for_openai

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
        self,
        engine: Engine,
        keys: KeyLimits,
        on_refusal: Callable[[BebrError, str, str], None],
        request_ids: Iterator[bytes],
    ) -> None:
        """on_refusal: see `connection.Gate`."""
        self._engine = engine
        self._keys = keys
        self._on_refusal = on_refusal
        self._request_ids = request_ids
        self._templates: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        """Refusals without their request id, by their detail and shape."""
        lanes = engine.admission
        self._embeddings = lanes.embedding_requests
        self._lanes: dict[bytes, Lane] = {
            b"search": lanes.search_requests,
            b"search/batch": lanes.search_requests,
            b"points": lanes.write_requests,
            b"points/vectors": lanes.write_requests,
        }
        """By what follows the collection in the path."""
        self._refused: dict[bytes, tuple[Lane, str]] = {}
        """By method and path: what was refused of late, with the collection that it is for."""

    def refuse_unparsed(self, data: bytes) -> bytes | None:
        """What came on a connection at rest -> a refusal, where it is one whole request that would be refused."""
        target = data[: data.find(b" HTTP/1.1\r\n", 0, MAX_TARGET_BYTES)]
        if (found := self._refused.get(target)) is None:
            return None
        head = _PLAIN_HEAD.match(data)
        if head is None or head.end() + int(head[1]) != len(data):
            return None
        lane, collection = found
        wait = lane.wait_seconds(collection + self._keys.name_in(head[0]))
        if wait <= lane.allowed_seconds(None):
            del self._refused[target]
            return None
        return self._refuse_from(lane, wait, next(self._request_ids))

    def receive(self, method: bytes, path: bytes, headers: Headers) -> bytes | Ticket | None:
        """The head of a request -> the whole answer, or the place of the request in its lane, or None: it has none."""
        if path == b"/livez" and method == b"GET":
            return alive(given_request_id(headers) or next(self._request_ids))
        name = self._keys.name(headers)
        if (over := self._keys.take(name)) is not None:
            return self._refusal(over, path.decode("latin-1"), given_request_id(headers) or next(self._request_ids))
        if (found := self._lane(method, path)) is None:
            return None
        lane, collection = found
        wait = lane.wait_seconds(collection + name)
        if not wait or wait <= lane.allowed_seconds(_timeout_seconds(headers)):
            return Ticket(lane, collection + name)
        if len(self._refused) >= MAX_KEPT:
            self._refused.clear()
        self._refused[b"POST " + path] = found
        return self._refuse_from(lane, wait, given_request_id(headers) or next(self._request_ids))

    def _lane(self, method: bytes, path: bytes) -> tuple[Lane, str] | None:
        """The lane that counts such requests, and the collection that they are for; None: there is none."""
        if method != b"POST":
            return None
        if path == EMBEDDINGS_PATH.encode():
            return self._embeddings, EVERYBODY
        if path.startswith(COLLECTIONS):
            collection, _, rest = path[len(COLLECTIONS) :].partition(b"/")
            lane = self._lanes.get(rest)
            if lane is not None and (key := self._engine.registry.key_of(collection.decode("latin-1"))) is not None:
                return lane, key
        return None

    def _refuse_from(self, lane: Lane, wait: float, request_id: bytes) -> bytes:
        lane.refused += 1
        path = EMBEDDINGS_PATH if lane is self._embeddings else ""
        return self._refusal(lane.overloaded(wait), path, request_id)

    def _refusal(self, error: Overloaded, path: str, request_id: bytes) -> bytes:
        """The whole answer, in the shape that callers of the path expect."""
        self._on_refusal(error, "", request_id.decode())
        before, after = self._template(error, path if is_for_openai(path) else "")
        return before + request_id + after

    def _template(self, error: Overloaded, path: str) -> tuple[bytes, bytes]:
        kept = self._templates.get((error.detail, path))
        if kept is None:
            if len(self._templates) >= MAX_KEPT:
                self._templates.clear()
            mark = b"the-request-id"
            before, _, after = wire(error, mark, path=path).partition(mark)
            kept = self._templates[error.detail, path] = (before, after)
        return kept


def _timeout_seconds(headers: Headers) -> float | None:
    """How long the caller waits, if it said so."""
    given = next((value for name, value in headers if name == HEADER), None)
    try:
        return None if given is None else milliseconds(given) / 1000
    except ValueError:
        return None  # the app says what is wrong with it
