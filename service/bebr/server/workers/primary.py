"""The primary worker as the other workers reach it: connections to its Unix socket, and waiting while it is away.

While it is being replaced nobody listens there. Requests then wait for it, a bounded time. What was sent to it and not
answered is sent again only where it does no more than read: of a write nobody can tell whether it was done.
"""

import asyncio
import time
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from bebr.engine.admission import caller
from bebr.errors import Abandoned, DeadlineExceeded, PrimaryUnavailable
from bebr.server.middleware.auth import READY_PATH
from bebr.server.middleware.callers import HEADER as TIMEOUT
from bebr.server.workers.exchange import Headers, Lost, PrimaryConnection
from bebr.server.workers.inside import CLIENT
from bebr.telemetry import request_id

MAX_IDLE = 64
"""Connections that are kept for the next requests."""
PAUSE_SECONDS = 0.02
"""Between two attempts to reach a primary that is away; one for all that wait."""
RETRY_AFTER_SECONDS = 1
LATE_SECONDS = 1.0
"""How much later than the caller wants it an answer may begin: the primary says so itself where it can."""
REQUEST_ID, LENGTH, CHUNKED, EXPECT = b"x-request-id", b"content-length", b"transfer-encoding", b"expect"
OF_ONE_CONNECTION = frozenset({b"connection", b"keep-alive", b"upgrade", b"te", b"proxy-connection", CLIENT})
"""Headers of requests that are not passed on."""
ANEW = frozenset({REQUEST_ID, TIMEOUT})
MADE_HERE = OF_ONE_CONNECTION | {CHUNKED, b"date", REQUEST_ID, b"bebr-version"}
"""Headers of answers that each worker gives its own."""


class Primary:
    """Requests to the primary. On the event loop."""

    def __init__(self, path: str, wait_seconds: float) -> None:
        """path: of its Unix socket. wait_seconds: how long a request waits for a primary that is away."""
        self._path = path
        self._wait_seconds = wait_seconds
        self._idle: list[PrimaryConnection] = []
        self._busy = 0
        self._reaching: asyncio.Task[None] | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._rests = asyncio.Event()
        self._rests.set()
        self._is_last = False
        """Nobody replaces it where it is away."""

    def expect_no_other(self) -> None:
        """Whoever would replace it has ended or stops the service: what waits for another one is refused."""
        self._is_last = True
        self.release()

    async def hold(self, seconds: float | None = None, gives_up: bool = False) -> bool:
        """Send it nothing more. False: what is under way there has not ended within this time; None: any.

        gives_up: it takes requests again then.
        """
        self._released.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._rests.wait()
        except TimeoutError:
            if gives_up:
                self.release()
            return False
        self.close()
        return True

    def release(self) -> None:
        """It takes requests again."""
        self._released.set()

    def close(self) -> None:
        """Hang up where nothing is under way."""
        while self._idle:
            self._idle.pop().abort()

    async def exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the primary answer a request. Raises PrimaryUnavailable, DeadlineExceeded, ClientDisconnect; Lost where
        the answer has begun."""
        until = time.monotonic() + self._wait_seconds
        while True:
            connection = await self._connection(until, waits=scope["raw_path"] != READY_PATH.encode())
            self._busy += 1
            self._rests.clear()
            try:
                if await self._try(connection, scope, receive, send):
                    return
            finally:
                self._busy -= 1
                if not self._busy:
                    self._rests.set()

    async def _try(self, connection: PrimaryConnection, scope: Scope, receive: Receive, send: Send) -> bool:
        """False: nothing of it was done or it only reads, and it may be sent again."""
        connection.begin(scope["method"], _target(scope), _headers(scope))
        upload = _Upload(connection, receive, scope["headers"])
        task = asyncio.create_task(upload.run())
        try:
            await _pass_on(connection, send)
        except TimeoutError:
            raise PrimaryUnavailable(
                "the primary worker did not answer within the time that the caller allowed; whether the request was "
                "done is not known",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None
        except Lost as error:
            if upload.caller_left:
                raise ClientDisconnect from None
            if connection.has_begun:
                raise  # all that is left is to cut the answer off
            if scope["method"] == "GET" and not upload.has_body and not connection.heard:
                return False
            raise PrimaryUnavailable(
                "the primary worker ended before it had answered; whether the request was done is not known, so look, "
                "or send it again if it may be done twice",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._put_back(connection, upload.complete)
        return True

    def _put_back(self, connection: PrimaryConnection, sent_all: bool) -> None:
        if sent_all and connection.can_go_on and connection.is_free and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connection(self, until: float, waits: bool) -> PrimaryConnection:
        """waits: also where the primary is away. Raises PrimaryUnavailable where there is none, DeadlineExceeded."""
        if self._released.is_set():
            while self._idle:
                connection = self._idle.pop()
                if connection.is_free:
                    return connection
        waiting = caller.get()
        allowed = until if waiting.deadline is None else min(until, waiting.deadline)
        try:
            async with asyncio.timeout(max(0.0, allowed - time.monotonic())):
                while True:
                    await self._released.wait()
                    with suppress(OSError):
                        connection = await self._connect()
                        if self._released.is_set():
                            return connection
                        connection.abort()  # it was to be sent nothing more while this one was made
                        continue
                    if waiting.has_left():
                        raise Abandoned("the caller left while the primary worker was away")
                    if not waits or self._is_last:
                        raise PrimaryUnavailable(
                            "the primary worker is away; try again, nothing was done",
                            retry_after_seconds=RETRY_AFTER_SECONDS,
                        )
                    await asyncio.shield(self._back())
        except TimeoutError:
            if allowed < until:
                raise DeadlineExceeded(
                    "the primary worker was not there within the time that the caller allowed"
                ) from None
            raise PrimaryUnavailable(
                f"only the primary worker answers this, and it was away for {self._wait_seconds:g} s; try again, "
                "nothing was done",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from None

    async def _connect(self) -> PrimaryConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(PrimaryConnection, self._path)
        return connection

    def _back(self) -> "asyncio.Task[None]":
        """Ends when the primary can be reached, or nobody is to wait for it; one for all that wait."""
        if self._reaching is None or self._reaching.done():
            self._reaching = asyncio.create_task(self._reach())
        return self._reaching

    async def _reach(self) -> None:
        while not self._is_last:
            await asyncio.sleep(PAUSE_SECONDS)
            with suppress(OSError):
                self._idle.append(await self._connect())
                return


class _Upload:
    """Sends a body as it comes, then waits for the caller to leave."""

    def __init__(self, connection: PrimaryConnection, receive: Receive, headers: Headers) -> None:
        names = {name for name, _ in headers}
        self._connection = connection
        self._receive = receive
        self._chunked = CHUNKED in names
        self._is_asked_for = EXPECT in names
        self.has_body = self._chunked or LENGTH in names
        self.complete = not self.has_body
        self.caller_left = False

    async def run(self) -> None:
        with suppress(Lost):
            if self._is_asked_for:
                await self._connection.goes_on.wait()
                if self._connection.has_begun:
                    return  # to ask the caller for anything would be to ask for the body
            await self._send_body()
            while (await self._receive())["type"] != "http.disconnect":
                pass
            if not self._connection.has_all:
                self.caller_left = True
                self._connection.abort()

    async def _send_body(self) -> None:
        while not self.complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.caller_left = True
                self._connection.abort()
                raise Lost
            body, more = message.get("body", b""), message.get("more_body", False)
            if self._chunked:
                body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
                body += b"" if more else b"0\r\n\r\n"
            if body:
                await self._connection.write(body)
            self.complete = not more


async def _pass_on(connection: PrimaryConnection, send: Send) -> None:
    """The answer, as it comes."""
    deadline = caller.get().deadline
    async with asyncio.timeout(None if deadline is None else deadline - time.monotonic() + LATE_SECONDS):
        status, headers = await connection.head()
    kept = [(name, value) for name, value in headers if name not in MADE_HERE]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    more = True
    while more:
        body = await connection.some()
        more = not connection.has_all
        await send({"type": "http.response.body", "body": body, "more_body": more})


def _target(scope: Scope) -> bytes:
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return b"%b?%b" % (path, query) if query else path


def _headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in scope["headers"] if name not in OF_ONE_CONNECTION and name not in ANEW]
    host, port = scope.get("client") or ("", 0)
    kept += [(REQUEST_ID, request_id().encode()), (CLIENT, f"{host} {port}".encode())]
    deadline = caller.get().deadline
    if deadline is not None:
        kept.append((TIMEOUT, b"%d" % max(1, round((deadline - time.monotonic()) * 1000))))
    return kept
