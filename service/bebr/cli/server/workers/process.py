"""One worker process, as its supervisor sees it."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bebr import errors
from bebr.cli.server.workers.control import Order, Start, Word, fields_of, line, send_start
from bebr.cli.server.workers.forking import Forks, exit_code
from bebr.errors import BebrError, Unavailable

STEADY_BEATS = 60
"""A worker that ends by itself before it has said so many has failed to start."""


def has_failed(beats: int | None, code: int) -> bool:
    """Whether the end of a worker counts as a start that failed. beats: since it was ready; None: it never was."""
    was_stopped = code in (0, -signal.SIGKILL, -signal.SIGTERM)
    return beats is None or (beats < STEADY_BEATS and not was_stopped)


class WorkerProcess:
    """A worker that was started. `spawn` makes one."""

    def __init__(self, pid: int, number: int, folder: Path, waiting: Callable[[str], None]) -> None:
        """folder: has its sockets."""
        self.pid = pid
        self._folder = folder
        self._waiting = waiting
        self._writer: asyncio.StreamWriter | None = None
        self._said: dict[Word, asyncio.Event] = {word: asyncio.Event() for word in Word}
        self._fields: dict[Word, dict[str, Any]] = {}
        """Of what it said last."""
        self._failure: BebrError | None = None
        self.number = number
        self.beats = 0
        self._ended = asyncio.create_task(self._end())
        self._stood_still = False
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, forks: Forks, listener: int, start: Start, waiting: Callable[[str], None]) -> Self:
        """listener: descriptor of the socket that all share. waiting: told why it is not ready yet."""
        pid, ours = await forks.fork(start.number, listener)
        try:
            with suppress(OSError):  # it has died already
                send_start(ours, start)
            ours.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        worker = cls(pid, start.number, start.folder, waiting)
        worker._writer = writer
        worker._listening = asyncio.create_task(worker._listen(reader))
        return worker

    @property
    def is_ready(self) -> bool:
        return self._said[Word.READY].is_set()

    async def has_failed(self) -> bool:
        """Whether its end, once it has come, counts as a start that failed."""
        code = await self.wait()
        return self._stood_still or has_failed(self.beats if self.is_ready else None, code)

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def wait(self) -> int:
        """Return its exit code once it has died."""
        return await asyncio.shield(self._ended)

    def say(self, order: Order, **fields: Any) -> None:
        """Where it has died that is nobody's to hear."""
        if self._writer is not None:
            self._writer.write(line(order, **fields))

    async def heard(self, word: Word) -> None:
        """Return once it has said so. Raises what it failed with, or Unavailable, where it has died instead."""
        hears = asyncio.create_task(self._said[word].wait())
        await asyncio.wait((hears, self._ended), return_when=asyncio.FIRST_COMPLETED)
        hears.cancel()
        if not self._said[word].is_set():
            raise await self.failure()

    async def ask(self, order: Order, answer: Word, patience_seconds: float, **fields: Any) -> dict[str, Any] | None:
        """Say something, and wait for the answer, but not for longer; None: none came."""
        self._said[answer].clear()
        self.say(order, **fields)
        with suppress(TimeoutError, BebrError):
            async with asyncio.timeout(patience_seconds):
                await self.heard(answer)
                return self._fields[answer]
        return None

    async def failure(self) -> BebrError:
        """Why it has ended."""
        code = await self.wait()
        if self._listening is not None:
            await self._listening
        return self._failure or Unavailable(f"worker {self.number} ended with {_exit(code)}; its log may say why")

    async def end(self, seconds: float) -> None:
        """Return when it has died; after this time it is killed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
        self.kill()
        await self.wait()
        if self._listening is not None:
            await self._listening

    def kill_still(self) -> None:
        """It stands still: one that does so soon after it was ready has failed to start."""
        self._stood_still = self.beats < STEADY_BEATS
        self.kill()

    def kill(self) -> None:
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _end(self) -> int:
        code = await exit_code(self.pid)
        for path in self._folder.glob(f"*-{self.number}-{self.pid}"):
            if path.is_socket():  # it had no time to remove it
                path.unlink(missing_ok=True)
        return code

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while said := await reader.readline():
                self._hear(fields_of(said))
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _hear(self, fields: dict[str, Any]) -> None:
        word = Word(fields["word"])
        if word is Word.BEAT:
            self.beats += self.is_ready
        elif word is Word.WAITING:
            self._waiting(fields["reason"])
        elif word is Word.FAILED:
            kind = getattr(errors, fields["error"], Unavailable)
            self._failure = kind(fields["detail"])
        self._fields[word] = fields
        self._said[word].set()


def _exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
