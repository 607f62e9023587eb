"""One connection: how long it waits for its caller, and how it ends.

Headers that do not come in time, a body that trickles, an answer that nobody reads and connections over the limit are
cut off. What is parsed, and what becomes of it, is `protocol`'s.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bebr.errors import BebrError
from bebr.server.connections.exchange import Outlet
from bebr.server.connections.rates import RateWatch, Timer
from bebr.server.connections.reception import OnRefusal, Ticket
from bebr.server.connections.refusals import wire
from bebr.server.connections.repeats import Repeats
from bebr.server.connections.starting import StartQueue
from bebr.server.middleware.request_ids import request_ids
from bebr.server.problems import RequestTimeout, TooManyConnections

LINGER_SECONDS = 1.0
"""After a refusal that ends the connection: how long the caller may go on sending, so that it can read the answer."""

Receive = Callable[[bytes, bytes, Sequence[tuple[bytes, bytes]]], bytes | Ticket | None]
"""(method, path, headers) -> a complete answer that takes the place of the app's (see `refusals.wire`), or the place of
the request in a lane, or None: it has none."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may take, and how many there may be."""

    max_header_bytes: int = 64 * 1024
    """Of a request line and all headers; as much again of trailers and chunk extensions."""
    max_headers: int = 100
    header_timeout_seconds: float = 10.0
    """From the opening of a connection, or the first byte of a request, to the end of its headers."""
    min_body_bytes_per_s: int = 1024
    """The rate at which a body must arrive and an answer must be read; 0: any."""
    keep_alive_seconds: float = 60.0
    """How long a connection may wait for its next request."""
    max_connections: int = 0
    """0: any number."""


@dataclass(frozen=True)
class Gate:
    """What all connections of a service share."""

    limits: ConnectionLimits = ConnectionLimits()
    receive: Receive = lambda method, path, headers: None
    """Asked once per request, before anything of it is done; must not block."""
    receive_inside: Receive = lambda method, path, headers: None
    """The same, of a request that another process of the service has passed on, and has asked before."""
    refuse_unparsed: Callable[[bytes], bytes | None] = lambda data: None
    """Asked of what comes on a connection at rest -> a complete refusal, where that is one whole request."""
    on_refusal: OnRefusal = lambda error, client, request_id, count: None
    """Told of every request or connection that ends here."""
    request_ids: Iterator[bytes] = field(default_factory=request_ids)
    starts: StartQueue = field(default_factory=StartQueue)
    repeats: Repeats | None = None
    """Answers requests that repeat the head of the one before; None: all go through the app."""


class Connection(HttpToolsProtocol):
    """The state of a connection.

    _current: the request that is being answered; `cycle` is the latest one, which may still wait for its turn.
    _error: what the connection ends with, once the answers that are due are given. _ended: nothing more is parsed.
    _in_head: between two requests, or in the head of one; _began: a request has; _timing_head: the time of a head runs.
    _closes: the latest request is the last one.
    _heard: when the last bytes came; _rests_since: when the last answer was given. _body_bytes: what came of the body.
    _ticket: of the current request. _drains: the next answer is the last one.
    """

    def __init__(self, gate: Gate, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._gate = gate
        self._limits = limits = gate.limits
        self._arriving = RateWatch(self.loop, limits.min_body_bytes_per_s, self._arrived, self._on_slow_body)
        self._leaving = RateWatch(self.loop, limits.min_body_bytes_per_s, self._unsent, self._on_slow_reader)
        self._current: RequestResponseCycle | None = None
        self._ticket: Ticket | None = None
        self._error: BebrError | None = None
        self._heard = 0.0
        self._ended = False
        self._in_head = True
        self._began = False
        self._closes = False
        self._timing_head = False
        self._rests_since = 0.0
        self._body_bytes = 0
        self._drains = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._outlet = Outlet(transport, self._close)
        self._heard = self.loop.time()
        self._time_head()
        if self._limits.max_connections and len(self.connections) > self._limits.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._unset_keepalive_if_required()
        self._arriving.stop()
        self._leaving.stop()
        current = self._current
        if current is not None and not current.response_complete:
            current.disconnected = True
            current.message_event.set()
        self._give_back_ticket(answered=False)
        self.pipeline.clear()
        super().connection_lost(exc)

    @property
    def _waits(self) -> bool:
        """Whether the service waits for this caller, and not the caller for the service."""
        return self._is_free or not (self._in_head or self.pipeline)

    @property
    def _is_free(self) -> bool:
        """Whether every request so far has its answer."""
        return not self.pipeline and (self._current is None or self._current.response_complete)

    def _give_back_ticket(self, answered: bool) -> None:
        if self._ticket is not None:
            self._ticket.leave(answered)
            self._ticket = None

    def shutdown(self) -> None:
        if self._current is None or self._current.response_complete:
            self.transport.close()
        else:
            self._current.keep_alive = False

    def drain(self) -> None:
        """End after the next answer, which says so: the caller may just be sending a request."""
        self._drains = True
        if self._current is not None and not self._current.response_complete:
            self._current.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """The timer goes on over requests: to start and stop one for each would cost more than to look at its end."""
        self.timeout_keep_alive_task = None
        if not self._is_free:
            return  # its answer starts another
        rest = max(self._heard, self._rests_since) + self._limits.keep_alive_seconds - self.loop.time()
        if rest > 0:
            self._arm(rest, self.timeout_keep_alive_handler)
        else:
            self._hang_up()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._leaving.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._leaving.stop()

    def _arm(self, seconds: float, action: Callable[[], None]) -> None:
        self.timeout_keep_alive_task = Timer(self.loop, seconds, action)  # type: ignore[assignment]

    def _time_head(self) -> None:
        """The caller has as long as it may take for a head from now on."""
        self._unset_keepalive_if_required()
        self._arm(self._limits.header_timeout_seconds, self._on_head_timeout)
        self._timing_head = True

    def _pause(self) -> None:
        """The caller has to wait."""
        self._arriving.excuse()
        self.flow.pause_reading()

    def _on_head_timeout(self) -> None:
        if not self._is_free:
            self._arm(self._limits.header_timeout_seconds, self._on_head_timeout)
        elif self._began:
            seconds = self._limits.header_timeout_seconds
            self._end(RequestTimeout(f"the request line and headers took over {seconds:g} s"))
        else:
            self._hang_up()

    def _arrived(self) -> int:
        if self.flow.read_paused or self.pipeline or (self.cycle is not None and self.cycle.waiting_for_100_continue):
            self._arriving.excuse()
        return self._body_bytes

    def _unsent(self) -> int:
        return -int(self.transport.get_write_buffer_size())

    def _on_slow_body(self) -> None:
        self._end(RequestTimeout(f"expected a body at {self._limits.min_body_bytes_per_s} bytes per second or more"))

    def _on_slow_reader(self) -> None:
        self.transport.abort()

    def _make_room(self) -> None:
        """Close the connections that let this service wait longest; refuse this one if there are none."""
        others = [p for p in self.connections if isinstance(p, Connection) and not p.transport.is_closing()]
        excess = len(others) - self._limits.max_connections
        if excess <= 0:
            return
        waiting = sorted((p for p in others if p is not self and p._waits), key=lambda p: p._heard)
        for other in waiting[: excess + self._limits.max_connections // 50]:
            other._hang_up()
        if len(waiting) < excess:
            self._end(TooManyConnections(f"all {self._limits.max_connections} connections are in use; try again"))

    def _end(self, error: BebrError) -> None:
        """Refuse what is coming in, after the answers that are due, and close."""
        self._ended, self._error = True, error
        self._arriving.stop()
        cycle = None if self._in_head else self.cycle
        if not self._in_head and (cycle is None or cycle.response_complete):  # its answer was given before its end came
            self._hang_up()
            return
        if cycle is not None:
            if cycle is self._current:
                cycle.disconnected = True
                cycle.message_event.set()
                self._give_back_ticket(answered=False)
                self._current = None
                if cycle.response_started:
                    self.transport.abort()
            else:
                self.pipeline.popleft()
        if self._is_free:
            self._say(error)

    def _say(self, error: BebrError) -> None:
        """The last words. What the caller still sends is read for a moment, or it might not see them."""
        request_id = next(self._gate.request_ids)
        self._gate.on_refusal(error, str(self.client), request_id.decode(), 1)
        if self.transport.is_closing():
            return
        self.transport.write(wire(error, request_id, close=True))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._unset_keepalive_if_required()
        self._arm(LINGER_SECONDS, self.transport.abort)

    def _close(self) -> None:
        """The last answer was given. A caller who is still sending sees it if what is sent is read to its end."""
        self._closes = True
        if self._current is not None:
            self._current.response_complete = True  # also where the app failed in the middle of it
        if self._in_head:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()

    def _hang_up(self) -> None:
        self._ended = True
        if self.transport.get_write_buffer_size():  # nobody reads the answer, and closing would wait for that
            self.transport.abort()
        else:
            self.transport.close()

    def _wait_for_next(self) -> None:
        self._rests_since = self.loop.time()
        if self._timing_head:  # so far it was the caller who waited
            self._time_head()
        elif self.timeout_keep_alive_task is None:
            self._arm(self._limits.keep_alive_seconds, self.timeout_keep_alive_handler)
