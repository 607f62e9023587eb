"""How the supervisor gets workers: forked from a template, of which each is nevertheless a child of its own."""

import asyncio
import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from bebr.cli.server.workers.template import PLACE
from bebr.errors import InvalidOption, Unavailable

COMMAND = (sys.executable, "-P", "-m", "bebr.cli.server.workers.template")
"""-P: what lies in the current folder is not imported."""
_SET_CHILD_SUBREAPER = 36
"""Of prctl: the children of a child that has ended are one's own."""


class Forks:
    """Makes workers. On the event loop."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        """modules: what workers import as soon as they know their settings, and had better have in common.

        Raises InvalidOption where the system has no such thing.
        """
        self._modules = modules
        if sys.platform != "linux":
            raise InvalidOption(f"several workers need Linux, and this is {sys.platform}; serve with one worker")
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._template: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._forking = asyncio.Lock()

    async def fork(self, number: int, listener: int) -> tuple[int, socket.socket]:
        """The process of a new worker, which has a copy of that descriptor, and the socket to speak with it.

        Raises Unavailable.
        """
        async with self._forking:
            for _ in range(2):  # a template that was killed is found out by asking it
                # a new pair each time: the killed one may have forked a worker all the same, which reads the end of it
                ours, theirs = socket.socketpair()
                try:
                    with theirs:
                        pid = await self._ask(number, (theirs.fileno(), listener))
                except BaseException:
                    ours.close()
                    raise
                if pid is not None:
                    return pid, ours
                ours.close()
                await self._drop()
            raise Unavailable(f"worker {number} could not be started; the log may say why")

    async def _ask(self, number: int, descriptors: Sequence[int]) -> int | None:
        """None: the template has ended."""
        channel = self._channel or await self._start()
        with suppress(OSError):
            socket.send_fds(channel, [b"%d" % number], list(descriptors))
            if pid := await asyncio.get_running_loop().sock_recv(channel, 16):
                return int(pid)
        return None

    async def renew(self) -> None:
        """Make the next worker from what is installed then."""
        async with self._forking:
            await self._drop()

    async def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._template is not None:
            with suppress(ProcessLookupError):
                self._template.kill()
            await self._template.wait()
            self._template = None

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._template = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    str(theirs.fileno()),
                    os.fsdecode(PLACE),
                    *self._modules,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # Ctrl-C is the supervisor's to hear
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._channel = ours
        return ours


async def exit_code(pid: int) -> int:
    """Of a child, once it has ended; minus the signal that ended it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it has ended
    return os.waitstatus_to_exitcode(status)
