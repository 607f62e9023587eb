"""Connections of a listening socket that several processes share: taken one by one, so that no process takes them all.

Nothing waits in the queue of a process that dies: the queue belongs to all of them.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)

OUT_OF_FILES_SECONDS = 0.1
"""How long nobody is let in after there was no descriptor for a connection."""
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Takes connections from when it is started until it is closed. On the event loop."""

    def __init__(self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """listener: does not block; stays open when this is closed."""
        self._listener = listener
        self._make_protocol = make_protocol
        self._listens = False
        self._pause: asyncio.TimerHandle | None = None
        self._begun: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Also where it has started already."""
        self._pause = None
        if not self._listens:
            self._listens = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    async def close(self) -> None:
        """Let nobody in any more; returns once whoever was let in has a protocol."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._stop_listening()
        await asyncio.gather(*self._begun, return_exceptions=True)

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # another process was faster, or the caller has left
            if error.errno in _NO_ROOM:
                log.warning("no connection can be taken: %s", error.strerror)
                self._stop_listening()
                self._pause = asyncio.get_running_loop().call_later(OUT_OF_FILES_SECONDS, self.start)
            return
        connection.setblocking(False)
        begun = asyncio.get_running_loop().create_task(self._begin(connection))
        self._begun.add(begun)
        begun.add_done_callback(self._begun.discard)

    async def _begin(self, connection: socket.socket) -> None:
        with suppress(OSError):  # its caller has left
            try:
                await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
            except BaseException:
                connection.close()
                raise
