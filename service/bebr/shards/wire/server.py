"""WireServer: answers calls over connections, by the handlers that it is given.

A call begins at once, or is refused at once: so many are under way at most. One that is cancelled, or whose connection
ends, is stopped where it waits; its answer goes nowhere.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from bebr.at_once import run_at_once
from bebr.errors import BebrError
from bebr.shards.wire import frames
from bebr.shards.wire.addresses import address_of, host_and_port, unix_path
from bebr.shards.wire.failures import Reason, encoded, unavailable
from bebr.shards.wire.frames import ANSWER, CALL, CANCEL, FAILURE, MAGIC, FrameStream, WireError, greeting, numbered

log = logging.getLogger(__name__)
MAX_CALLS = 1000
MAX_CONNECTIONS = 1000
HELLO_SECONDS = 10.0
"""How long a connection may say nothing at first."""
Handler = Callable[[Any, float], Awaitable[Any]]
"""The value of a call, and the time of the event loop up to which its caller waits -> the value of the answer.

It begins outside a task: what needs one has `await in_task()` before it. It raises what callers are to be told."""


class WireServer:
    """One instance serves one event loop.

    handlers: by name of the method. name: of this process, as `Leaf.name` has it. tls: a context with the certificate
    of this side, which may ask for that of the other one.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        name: str,
        tls: ssl.SSLContext | None = None,
        max_calls: int = MAX_CALLS,
        max_connections: int = MAX_CONNECTIONS,
        versions: tuple[int, int] = frames.VERSIONS,
    ) -> None:
        self.handlers, self.name, self.versions = handlers, name, versions
        self.max_calls, self.max_connections = max_calls, max_connections
        self.calls = 0
        """Under way."""
        self.answered = 0
        """Since the start, refused and failed ones included."""
        self.address = ""
        """Where it listens, once it is started."""
        self.streams: set[_Stream] = set()
        self.is_closing = False
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> None:
        """Listen there; of `host:0` the port is chosen, and `address` says which. Raises OSError, InvalidOption."""
        loop, new = asyncio.get_running_loop(), partial(_Stream, self)
        if (path := unix_path(address)) is not None:
            with suppress(FileNotFoundError):
                await asyncio.to_thread(os.unlink, path)
            self._server = await loop.create_unix_server(new, path, ssl=self._tls)
            self.address = address
        else:
            host, port = host_and_port(address)
            self._server = await loop.create_server(new, host, port, ssl=self._tls)
            self.address = address_of(host, self._server.sockets[0].getsockname()[1])

    async def close(self, seconds: float = 0.0) -> None:
        """Take no call any more, wait so long for those under way, and end all connections."""
        self.is_closing = True
        if self._server is not None:
            self._server.close()
        deadline = asyncio.get_running_loop().time() + seconds
        while self.calls and (left := deadline - asyncio.get_running_loop().time()) > 0:
            tasks = [task for stream in self.streams for task in stream.tasks.values()]
            if not tasks:
                break
            await asyncio.wait(tasks, timeout=left)
        for stream in list(self.streams):
            await stream.close()


class _Stream(FrameStream):
    """One connection, until it ends."""

    def __init__(self, server: WireServer) -> None:
        super().__init__()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        """Calls that wait for something, by number."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._hello: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        for task in list(self.tasks.values()):
            task.cancel()
        if self.transport is not None:
            self.transport.close()
            self._loop.call_later(1.0, self.abort)  # what nobody takes is not waited for
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.streams.add(self)
        self._hello = self._loop.call_later(HELLO_SECONDS, self.abort)

    def lost(self, why: str) -> None:
        self._server.streams.discard(self)
        if self._hello is not None:
            self._hello.cancel()
        for task in list(self.tasks.values()):
            task.cancel()
        if not self._closed.done():
            self._closed.set_result(None)

    def refused(self, error: WireError) -> None:
        log.warning("a connection ends: %s", error.detail)

    def received(self, message: list[Any]) -> None:
        if not self.is_greeted:
            self._greet(message)
        elif message and message[0] == CALL:
            self._begin(numbered(message, 5), message)
        elif message and message[0] == CANCEL:
            if (task := self.tasks.get(numbered(message, 2))) is not None:
                task.cancel()
        else:
            raise WireError(f"expected a call, got {str(message)[:80]}")

    def _greet(self, message: list[Any]) -> None:
        lowest, highest = greeting(message)
        ours = self._server.versions
        version = min(highest, ours[1]) if isinstance(highest, int) else 0
        if version < max(lowest, ours[0]):
            why = f"versions {lowest} to {highest} of the wire are asked for, {ours[0]} to {ours[1]} are spoken here"
            self._refuse(why)
        elif len(self._server.streams) > self._server.max_connections or self._server.is_closing:
            self._refuse("it takes no more connections")
        else:
            self.is_greeted = True
            self.send([MAGIC, version, self._server.name])
        if self._hello is not None:
            self._hello.cancel()

    def _refuse(self, why: str) -> None:
        self.send([MAGIC, 0, why])
        if self.transport is not None:
            self.transport.close()

    def _begin(self, number: int, message: list[Any]) -> None:
        _, _, method, milliseconds, value = message
        if not isinstance(method, str) or not isinstance(milliseconds, int):
            raise WireError("a call names a method, and how long it waits in milliseconds")
        server = self._server
        if number in self.tasks:
            raise WireError(f"call {number} is under way")
        if server.calls >= server.max_calls or server.is_closing:
            why = "it stops" if server.is_closing else f"{server.calls} calls are under way (the limit)"
            server.answered += 1
            self.send([FAILURE, number, encoded(unavailable(Reason.BUSY, f"the leaf {server.name}: {why}"))])
            return
        server.calls += 1
        run_at_once(
            self._run(number, method, value, self._loop.time() + milliseconds / 1000), partial(self._keep, number)
        )

    def _keep(self, number: int, task: "asyncio.Task[None]") -> None:
        self.tasks[number] = task
        task.add_done_callback(lambda _: self.tasks.pop(number, None))

    async def _run(self, number: int, method: str, value: Any, deadline: float) -> None:
        server = self._server
        try:
            if (handler := server.handlers.get(method)) is None:
                raise unavailable(Reason.FAILED, f"the leaf {server.name} knows no method {method!r:.80}")
            frame = frames.pack([ANSWER, number, await handler(value, deadline)])
        except BebrError as error:
            frame = frames.pack([FAILURE, number, encoded(error)])
        except asyncio.CancelledError:
            return
        except Exception:
            log.exception("call %s failed", method)
            frame = frames.pack(
                [FAILURE, number, encoded(unavailable(Reason.FAILED, f"the leaf {server.name} failed; see its log"))]
            )
        finally:
            server.calls -= 1
            server.answered += 1
        self.write(frame)
