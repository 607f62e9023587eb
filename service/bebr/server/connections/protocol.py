"""The HTTP protocol of the service: uvicorn's, with a limit on everything that a caller can send without an end.

What a request line, headers, trailers and chunk extensions take is counted before the parser joins anything. An
overloaded service can refuse a request here, at the cost of parsing its head. The app never sees either.
"""

import urllib.parse
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bebr.errors import Abandoned, BebrError, DeadlineExceeded, Overloaded
from bebr.server.connections.repeating import Repeating
from bebr.server.connections.repeats import MAX_BYTES
from bebr.server.middleware.callers import ARRIVED
from bebr.server.problems import ERROR, HeadTooLarge, InvalidHttp

PIECE_BYTES = 2048
"""How much is parsed at a time, except of a body of known length: what a pipeline may queue at most before it waits."""

REFUSALS = (Overloaded.__name__, DeadlineExceeded.__name__, Abandoned.__name__)
"""Answers that say nothing about how fast requests are answered."""


class GuardedProtocol(Repeating):
    """Parses requests and starts the app for each. Answers are sent in the order of the requests.

    _rest: bytes that wait until the requests before them are answered. _head_bytes: of the head so far; _bare_bytes:
    since the last byte of a body. _body_left: its announced length.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._rest = b""
        self._body_left: int | None = None
        self._bare_bytes = 0
        self._trailers = 0
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard = self.loop.time()
        if self._rest:  # whatever paused reading was undone by the app, which waits for the caller to hang up
            self._rest += data
            self._pause()
        elif self._began or not self._in_head or not self._is_free:
            self._whole = b""
            self._feed(data)
        elif not self._refuse(data) and not self._answer_repeat(data):
            self._whole = data if len(data) <= MAX_BYTES else b""
            self._feed(data)

    def _refuse(self, data: bytes) -> bool:
        """Whether what came between two requests was one that is answered unparsed."""
        answer = self._gate.refuse_unparsed(data)
        if answer is None:
            return False
        self.transport.write(answer)
        self.server_state.total_requests += 1
        if self._timing_head:
            self._unset_keepalive_if_required()
            self._timing_head = False
            self._wait_for_next()
        return True

    def _feed(self, data: bytes) -> None:
        """Parse piece by piece, until a request has to wait for the answer to another one."""
        position, size = 0, len(data)
        while position < size and not self._ended:
            if self.pipeline:
                self._rest = data[position:]
                self._pause()
                return
            step = PIECE_BYTES if self._in_head else max(PIECE_BYTES, self._left())
            position += self._parse(data if position == 0 and size <= step else data[position : position + step])
        if self._ended:
            return
        if not self._in_head:
            self._arriving.start()
        elif self._began and not self._timing_head:
            self._time_head()

    def _parse(self, piece: bytes) -> int:
        """The number of bytes that were parsed. What fails ends the connection."""
        body_bytes = self._body_bytes
        if self._in_head:
            self._head_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:  # nothing here can be upgraded to: the request is as any other
            return max(1, int(upgrade.args[0]))
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and self._error is None:
                self.transport.abort()
                raise  # a fault of the service
            self._end(self._error or InvalidHttp(f"the request is not valid HTTP: {error}"))
            return len(piece)
        if self._in_head:
            if self._head_bytes > self._limits.max_header_bytes:
                self._end(self._too_large())
        elif self._body_bytes == body_bytes:
            self._bare_bytes += len(piece)
            if self._bare_bytes > self._limits.max_header_bytes + PIECE_BYTES:
                self._end(self._too_large())
        else:
            self._bare_bytes = 0
        return len(piece)

    def _left(self) -> int:
        """Bytes that are left of a body of known length; below 0 where it comes in chunks."""
        if self._body_left is None:
            headers = dict(self.headers)
            chunked = b"transfer-encoding" in headers
            self._body_left = -1 if chunked else int(headers.get(b"content-length", b"0"))
        return self._body_left - self._body_bytes

    def on_message_begin(self) -> None:
        if self._closes:
            raise self._fault(InvalidHttp("a request follows one after which the connection ends"))
        super().on_message_begin()
        self._began = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer; nothing here reads one
            self._trailers += 1
            if self._trailers > self._limits.max_headers:
                raise self._fault(self._too_large())
            return
        if len(self.headers) >= self._limits.max_headers:
            raise self._fault(self._too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._timing_head:
            self._unset_keepalive_if_required()
            self._timing_head = False
        if self._head_bytes + PIECE_BYTES > self._limits.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._limits.max_header_bytes:
                raise self._fault(self._too_large())
        self._body_bytes = self._bare_bytes = self._trailers = 0
        self._body_left = None
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self._complete_scope(method, version)
        if self.parser.should_upgrade() and self._left() != 0:  # the parser would take the body for another request
            raise self._fault(InvalidHttp("a request with a body cannot upgrade: send it without the header upgrade"))
        self._in_head = False
        keep_alive = version != "1.0" and self.parser.should_keep_alive() and not self._drains
        self._closes = not keep_alive
        if not self._is_free:
            self._start(keep_alive, at_once=False)
            return
        if self._receive(self.scope, keep_alive):
            self._start(keep_alive, at_once=True)
        else:
            self.cycle = None  # type: ignore[assignment]

    def _complete_scope(self, method: bytes, version: str) -> None:
        scope = self.scope
        scope["method"] = method.decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        try:
            url = httptools.parse_url(self.url)
            path = url.path.decode("ascii")
            if "%" in path:
                path = urllib.parse.unquote(path, errors="strict")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError) as error:
            raise self._fault(InvalidHttp(f"expected a path in UTF-8, got {self.url!r:.200}")) from error
        scope["path"] = self.root_path + path
        scope["raw_path"] = self.root_path.encode("ascii") + url.path
        scope["query_string"] = url.query or b""

    def _start(self, keep_alive: bool, at_once: bool) -> None:
        self.scope[ARRIVED] = self._heard  # type: ignore[literal-required]
        self.cycle = self._exchange(self.scope, keep_alive)
        if at_once:
            self._current = self.cycle
            self._put(partial(self._begin, self.cycle, self.app))
        else:
            self._pause()
            self.pipeline.appendleft((self.cycle, self.app))

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.disconnected:
            self._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self._pause()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._in_head, self._began, self._head_bytes = True, False, 0
        self._arriving.stop()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._is_free and self._closes:
                self.transport.close()
            elif self._is_free:
                self._wait_for_next()
            return
        if self._ticket is not None and cycle is self._current:
            self._ticket.enter()
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self._current is not None:
            self._give_back_ticket(answered=self._current.scope.get(ERROR) not in REFUSALS)
            self._note_repeat(self._current)
        self._go_on()

    def _go_on(self) -> None:
        """A request was answered; what comes next?"""
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            self._start_next()
        elif self._error is not None:
            self._say(self._error)
        else:
            self.flow.resume_reading()
            self._wait_for_next()
        if self._rest:
            self.loop.call_soon(self._feed_rest)

    def _start_next(self) -> None:
        """The request that waited for the answer to the one before it; no other waits."""
        self._arriving.excuse()  # what is missing of it could not come
        self._current, app = self.pipeline.pop()
        if self._receive(self._current.scope, self._current.keep_alive):
            if self._ticket is not None and not self._current.more_body:
                self._ticket.enter()
            self._put(partial(self._begin, self._current, app))
        else:
            self._current.response_complete = True
            self._go_on()

    def _feed_rest(self) -> None:
        if self._rest and not self._ended:
            rest, self._rest = self._rest, b""
            self.flow.resume_reading()
            self._feed(rest)

    def _too_large(self) -> HeadTooLarge:
        limits = self._limits
        return HeadTooLarge(
            f"expected at most {limits.max_headers} headers, and {limits.max_header_bytes} bytes of request line and "
            "headers (as much again of trailers, and of chunk extensions)",
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
        )

    def _fault(self, error: BebrError) -> BebrError:
        """For callbacks of the parser, which keeps an exception to itself."""
        self._error = error
        return error
