"""WireClient: calls of one leaf, any number at once over one connection.

The connection is made when the first call needs it, and again when it was lost, after a pause that grows while it
fails. A connection that ends fails its calls at once; a call whose caller goes away is cancelled on the other side.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from bebr.shards.wire import frames
from bebr.shards.wire.addresses import host_and_port, unix_path
from bebr.shards.wire.failures import Reason, decoded, unavailable
from bebr.shards.wire.frames import ANSWER, CALL, CANCEL, FAILURE, MAGIC, FrameStream, WireError, greeting, numbered

CONNECT_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.05, 1.0
"""After a connection that failed; twice as long each time."""
Answer = asyncio.Future[Any]


class WireClient:
    """One instance serves one event loop.

    address: `host:port` or `unix:/path`. name: of the process that is to answer there; whoever else does is refused.
    tls: a context with the certificate of this side and those that it trusts.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str | None = None,
        tls: ssl.SSLContext | None = None,
        versions: tuple[int, int] = frames.VERSIONS,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self.address = address
        self._name, self._tls, self._versions, self._connect_seconds = name, tls, versions, connect_seconds
        self._stream: _Stream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._pause_seconds, self._not_before, self._why = 0.0, 0.0, ""
        self._closed = False

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    @property
    def in_flight(self) -> int:
        """Calls that are not answered yet."""
        return 0 if self._stream is None else len(self._stream.calls)

    @property
    def is_failing(self) -> bool:
        """Whether the last connection failed, and it is too early for another one."""
        return self._stream is None and asyncio.get_running_loop().time() < self._not_before

    def start(self, method: str, value: Any, seconds: float) -> Answer | None:
        """The answer to a call that is sent now; cancel it to cancel the call. None: `connected` must come first.

        It fails with LeafUnavailable, and with what the leaf raised. seconds: how long it waits.
        """
        return None if self._stream is None else self._stream.start(method, value, seconds)

    async def call(self, method: str, value: Any, seconds: float) -> Any:
        """The same, with a connection made where there is none."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (answer := self.start(method, value, deadline - asyncio.get_running_loop().time())) is None:
            await self.connected()
        return await answer

    async def connected(self) -> None:
        """Return once there is a connection. Raises LeafUnavailable."""
        if self._stream is not None:
            return
        if self._closed or self.is_failing:
            raise unavailable(Reason.GONE, f"the leaf at {self.address} does not answer: {self._why or 'closed'}")
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._ended)
        await asyncio.shield(self._connecting)

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._stream is not None:
            await self._stream.close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; there may be nobody left

    async def _connect(self) -> None:
        stream = _Stream(self._lost, self.address, self._name, self._versions)
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._open(stream)
                await stream.greeted
        except (OSError, TimeoutError, WireError) as error:
            await stream.close()
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            self._note_failure(why)
            raise unavailable(Reason.GONE, f"the leaf at {self.address} does not answer: {why}") from error
        except asyncio.CancelledError:
            await stream.close()
            raise
        self._stream, self._pause_seconds, self._not_before = stream, 0.0, 0.0

    async def _open(self, stream: "_Stream") -> None:
        loop, new = asyncio.get_running_loop(), lambda: stream
        if (path := unix_path(self.address)) is not None:
            await loop.create_unix_connection(
                new, path, ssl=self._tls, server_hostname="localhost" if self._tls else None
            )
        else:
            host, port = host_and_port(self.address)
            await loop.create_connection(new, host, port, ssl=self._tls)

    def _lost(self, stream: "_Stream", why: str) -> None:
        if stream is self._stream:
            self._stream = None
            self._note_failure(why)

    def _note_failure(self, why: str) -> None:
        self._why = why
        self._pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), LAST_PAUSE_SECONDS)
        self._not_before = asyncio.get_running_loop().time() + self._pause_seconds


class _Stream(FrameStream):
    """One connection, until it ends."""

    def __init__(
        self, on_lost: Callable[["_Stream", str], None], address: str, name: str | None, versions: tuple[int, int]
    ) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.calls: dict[int, tuple[Answer, asyncio.TimerHandle]] = {}
        self.greeted: asyncio.Future[None] = loop.create_future()
        self._loop, self._on_lost, self._address, self._name, self._versions = loop, on_lost, address, name, versions
        self._closed: asyncio.Future[None] = loop.create_future()
        self._number = 0

    def start(self, method: str, value: Any, seconds: float) -> Answer:
        self._number += 1
        number, answer = self._number, self._loop.create_future()
        frame = frames.pack([CALL, number, method, max(0, int(seconds * 1000)), value])
        timer = self._loop.call_later(max(0.0, seconds), self._late, number, answer)
        self.calls[number] = answer, timer
        answer.add_done_callback(partial(self._answered, number))
        self.write(frame)
        return answer

    async def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()  # what was sent may be for a process that takes nothing any more
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send([MAGIC, *self._versions])

    def received(self, message: list[Any]) -> None:
        if not self.is_greeted:
            self._greet(message)
        elif len(message) == 3 and message[0] == ANSWER:
            if (waiting := self.calls.get(numbered(message, 3))) is not None and not waiting[0].done():
                waiting[0].set_result(message[2])
        elif len(message) == 3 and message[0] == FAILURE:
            error = decoded(message[2])
            if (waiting := self.calls.get(numbered(message, 3))) is not None and not waiting[0].done():
                waiting[0].set_exception(error)
        else:
            raise WireError(f"expected an answer, got {str(message)[:80]}")

    def lost(self, why: str) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if not self.greeted.done():
            self.greeted.set_exception(WireError(why))
            self.greeted.exception()  # whoever connects may have given up
        for answer, _ in list(self.calls.values()):
            if not answer.done():
                answer.set_exception(unavailable(Reason.GONE, f"the leaf at {self._address} is gone: {why}"))
        self._on_lost(self, why)

    def refused(self, error: WireError) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(error)

    def _greet(self, message: list[Any]) -> None:
        version, name = greeting(message)
        lowest, highest = self._versions
        if version == 0:
            raise WireError(f"it refuses this side: {name!s:.200}")
        if not lowest <= version <= highest:
            raise WireError(f"it speaks version {version} of the wire, and {lowest} to {highest} are spoken here")
        if self._name is not None and name != self._name:
            raise WireError(f"{name!r:.80} answers there, and not {self._name!r:.80}")
        self.is_greeted = True
        if not self.greeted.done():
            self.greeted.set_result(None)

    def _late(self, number: int, answer: Answer) -> None:
        if not answer.done():
            answer.set_exception(unavailable(Reason.SILENT, f"the leaf at {self._address} has not answered in time"))
            self.send([CANCEL, number])

    def _answered(self, number: int, answer: Answer) -> None:
        _, timer = self.calls.pop(number)
        timer.cancel()
        if answer.cancelled():
            self.send([CANCEL, number])
        else:
            answer.exception()  # there may be nobody left to look at it
