"""Connections of a socket that several processes share, at the moment when a process takes no more of them."""

import asyncio
import errno
import socket
from typing import Any

from tests.waiting import until

from bebr.server.workers.accepting import OUT_OF_FILES_SECONDS, Acceptor


async def test_whoever_was_let_in_before_the_end_has_a_protocol_which_can_be_told_so():
    made: list[asyncio.BaseTransport] = []

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        acceptor = Acceptor(listener, Kept)
        with socket.create_connection(listener.getsockname()) as caller:
            acceptor._accept()  # as the event loop does, but in this very step
            await acceptor.close()
            assert len(made) == 1
            made[0].close()
            caller.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(caller, 1) == b""


class Full(socket.socket):
    """A socket of a process that has no descriptors left."""

    def accept(self) -> Any:
        raise OSError(errno.EMFILE, "too many open files")


async def test_who_takes_no_more_connections_does_not_begin_again_once_there_are_descriptors():
    with Full() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        acceptor = Acceptor(listener, asyncio.Protocol)
        acceptor.start()
        with socket.create_connection(listener.getsockname()):
            await until(lambda: acceptor._pause, "no descriptor is left")
            await acceptor.close()
            await asyncio.sleep(2 * OUT_OF_FILES_SECONDS)
        assert not asyncio.get_running_loop().remove_reader(listener.fileno())
