"""What becomes of a request once its head has come: an answer at once, or a place in a lane, before it is a task.

Probes and the refusals of an overloaded service are answered here. Under ten times the load that can be served, nine of
ten are refused, so a refusal must cost next to nothing: requests like one that was refused of late are not even parsed.
What is let in may still be refused where more is known of it.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bebr.engine import Engine
from bebr.engine.admission import Lane
from bebr.engine.embedder import EVERYBODY
from bebr.errors import BebrError, Overloaded
from bebr.server.connections.key_limits import KeyLimits
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
OnRefusal = Callable[[BebrError, str, str, int], None]
"""Told why, the caller's address, the id of an answer, and how many answers were the same."""


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


@dataclass(slots=True)
class _Refusal:
    """The answer to requests of one path, as long as they are refused."""

    lane: Lane
    collection: str
    error: Overloaded
    before: bytes
    after: bytes
    """The whole answer, before and after the request's id."""
    unreported: int = 0
    """How many got it in this turn of the event loop."""


class Reception:
    """Receives requests. Must not block."""

    def __init__(
        self,
        engine: Engine,
        keys: KeyLimits,
        on_refusal: OnRefusal,
        request_ids: Iterator[bytes],
        takes_writes: bool = True,
    ) -> None:
        """on_refusal: see `connection.Gate`. takes_writes: else another process does, and decides which."""
        self._engine = engine
        self._keys = keys
        self._on_refusal = on_refusal
        self._request_ids = request_ids
        lanes = engine.admission
        self._embeddings = lanes.embedding_requests
        self._lanes: dict[bytes, Lane] = {
            b"search": lanes.search_requests,
            b"search/batch": lanes.search_requests,
        }
        """By what follows the collection in the path."""
        if takes_writes:
            self._lanes |= dict.fromkeys((b"points", b"points/vectors", b"points/records"), lanes.write_requests)
        self._refusals: dict[bytes, _Refusal] = {}
        """By method and path: of what was refused of late."""
        self._unreported: list[_Refusal] = []

    def refuse_unparsed(self, data: bytes) -> bytes | None:
        """What came on a connection at rest -> a refusal, where it is one whole request that would be refused."""
        target = data[: data.find(b" HTTP/1.1\r\n", 0, MAX_TARGET_BYTES)]
        if (refusal := self._refusals.get(target)) is None:
            return None
        head = _PLAIN_HEAD.match(data)
        if head is None or head.end() + int(head[1]) != len(data):
            return None
        lane = refusal.lane
        if lane.wait_seconds(refusal.collection + self._keys.name_in(head[0])) <= lane.allowed_seconds(None):
            del self._refusals[target]
            return None
        return self._refuse(refusal, next(self._request_ids))

    def receive(self, method: bytes, path: bytes, headers: Headers) -> bytes | Ticket | None:
        """The head of a request -> the whole answer, or the place of the request in its lane, or None: it has none."""
        if path == b"/livez" and method == b"GET":
            return alive(self._request_id(headers))
        name = self._keys.name(headers)
        if (over := self._keys.take(name)) is not None:
            request_id = self._request_id(headers)
            self._on_refusal(over, "", request_id.decode(), 1)
            return wire(over, request_id, path=path.decode("latin-1"))
        return self._enter(name, method, path, headers)

    def receive_inside(self, method: bytes, path: bytes, headers: Headers) -> bytes | Ticket | None:
        """The same, for a request of which the process that took it in has counted all but its place."""
        return self._enter(self._keys.name(headers), method, path, headers)

    def _enter(self, name: str, method: bytes, path: bytes, headers: Headers) -> bytes | Ticket | None:
        """name: of the caller's key."""
        if (found := self._lane(method, path)) is None:
            return None
        lane, collection = found
        wait = lane.wait_seconds(collection + name)
        if not wait or wait <= lane.allowed_seconds(_timeout_seconds(headers)):
            return Ticket(lane, collection + name)
        target = b"POST " + path
        refusal = self._refusals.get(target)
        if refusal is None or refusal.collection != collection:
            refusal = self._remember(target, lane, collection, wait)
        return self._refuse(refusal, self._request_id(headers))

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

    def _remember(self, target: bytes, lane: Lane, collection: str, wait: float) -> _Refusal:
        if len(self._refusals) >= MAX_KEPT:
            self._refusals.clear()
        error, mark = lane.overloaded(wait), b"the-request-id"
        path = EMBEDDINGS_PATH if lane is self._embeddings else ""
        before, _, after = wire(error, mark, path=path).partition(mark)
        refusal = self._refusals[target] = _Refusal(lane, collection, error, before, after)
        return refusal

    def _refuse(self, refusal: _Refusal, request_id: bytes) -> bytes:
        """The whole answer. It is counted now, and reported with all others of this turn of the event loop."""
        refusal.lane.refused += 1
        if not refusal.unreported:
            if not self._unreported:
                asyncio.get_running_loop().call_soon(self._report, request_id.decode())
            self._unreported.append(refusal)
        refusal.unreported += 1
        return refusal.before + request_id + refusal.after

    def _report(self, request_id: str) -> None:
        """request_id: of the first of them."""
        for refusal in self._unreported:
            self._on_refusal(refusal.error, "", request_id, refusal.unreported)
            refusal.unreported = 0
        self._unreported.clear()

    def _request_id(self, headers: Headers) -> bytes:
        return given_request_id(headers) or next(self._request_ids)


def _timeout_seconds(headers: Headers) -> float | None:
    """How long the caller waits, if it said so."""
    given = next((value for name, value in headers if name == HEADER), None)
    try:
        return None if given is None else milliseconds(given) / 1000
    except ValueError:
        return None  # the app says what is wrong with it
