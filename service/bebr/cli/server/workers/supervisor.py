"""The process that holds the socket and keeps the workers: starts them, replaces those that die, stops, reloads.

It answers nobody itself, so that it stays small and nothing can stop it. When it dies, its workers end.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bebr.cli.options import local_url
from bebr.cli.server.starting import SHUTDOWN_SECONDS, Waiting, listen, use_folder
from bebr.cli.server.workers.control import Order, Start, Word
from bebr.cli.server.workers.forking import Forks
from bebr.cli.server.workers.process import WorkerProcess
from bebr.config import Settings
from bebr.disk import FolderLock
from bebr.errors import BebrError, InvalidOption, Unavailable
from bebr.telemetry import event

if TYPE_CHECKING:
    from bebr.server.connections.probes import Probes

log = logging.getLogger(__name__)

RUN_FOLDER = "run"
SQLITE, REDIS = "bebr.store.sqlite.store", "bebr.store.redis.store"
"""Stores that workers open."""
MAX_PATH_BYTES = 80
"""Of a folder with Unix sockets; the system has room for little more."""
LINGER_SECONDS = 5.0
"""How long a reload waits for callers that rest between two requests; most clients use no connection after that."""
AT_ONCE = {"linger_seconds": 0.0, "finish_seconds": float(SHUTDOWN_SECONDS)}
"""How requests that are under way are ended where the service is to stop."""
FIRST_HOLD_SECONDS, MAX_HOLD_SECONDS = 1.0, 4.0
"""How long other workers wait before they give up to keep the primary free for its end; twice as long each time."""
END_SECONDS = 2 * SHUTDOWN_SECONDS + 5.0
"""After this long a worker that was told to stop is killed."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.25, 8.0
"""Before a worker is started again that could not start; twice as long each time."""
MIN_STILL_SECONDS = 5.0
"""Workers speak each second."""
MAX_FAILED_STARTS = 5
"""In a row, of one worker."""


class Supervisor:
    """Keeps the workers of a service, until it is told to stop."""

    def __init__(self, settings: Settings, listener: socket.socket, waiting: Callable[[str], None]) -> None:
        """listener: stays the caller's to close. waiting: told why the service is not ready yet."""
        self._settings = settings
        self._listener = listener
        self._waiting = waiting
        self._folder = settings.data_dir
        """Where the workers find each other."""
        self._workers: list[WorkerProcess] = []
        """By number."""
        self._leaving: list[WorkerProcess] = []
        """Replaced by a reload, and not at an end with their requests."""
        self._forks = Forks([SQLITE if settings.redis_url is None else REDIS])
        self._stopped = asyncio.Event()
        self._wants_reload = asyncio.Event()

    async def run(self, when_ready: Callable[[], None]) -> None:
        """Raises what a first start failed with, and Unavailable where a worker cannot be kept alive."""
        with ExitStack() as opened:
            self._folder = _run_folder(self._settings.data_dir, opened)
            self._hear_signals()
            probes = _probes(self._settings, self._folder)
            serving, stopped = asyncio.create_task(self._serve(when_ready)), asyncio.create_task(self._stopped.wait())
            try:
                await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
                if serving.done():
                    await serving
            finally:
                for task in (serving, stopped):
                    task.cancel()
                await asyncio.gather(serving, stopped, return_exceptions=True)
                await self._stop_all()
                await self._forks.renew()
                if probes is not None:
                    await asyncio.to_thread(probes.stop)

    def _stop(self, number: int) -> None:
        """End in good order; at once where this was said before, which loses no acknowledged write."""
        if self._stopped.is_set():
            for worker in self._workers + self._leaving:
                worker.kill()
            os._exit(128 + number)
        self._stopped.set()
        with suppress(OSError):  # whoever read it may have been stopped by the same Ctrl-C
            print("\nstopping; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._wants_reload.set)

    async def _serve(self, when_ready: Callable[[], None]) -> None:
        self._workers.append(await self._begin(0, answers_before_ready=True))
        await self._workers[0].heard(Word.READY)
        for number in range(1, self._settings.worker_count):
            self._workers.append(await self._begin(number))
        for worker in self._workers:
            await worker.heard(Word.READY)
        await asyncio.to_thread(when_ready)
        work = [self._reload_when_asked()]
        for worker in self._workers:
            work += self._keep(worker.number), self._watch(worker.number)
        await asyncio.gather(*work)

    async def _prepare(self, number: int, answers_before_ready: bool = False) -> WorkerProcess:
        """A worker that waits to begin."""
        start = Start(self._settings, number, self._folder, answers_before_ready)
        return await WorkerProcess.spawn(self._forks, self._listener.fileno(), start, self._waiting)

    async def _begin(self, number: int, answers_before_ready: bool = False) -> WorkerProcess:
        """A worker that has begun."""
        worker = await self._prepare(number, answers_before_ready)
        worker.say(Order.GO)
        return worker

    async def _keep(self, number: int) -> None:
        """Start the worker again whenever it has died. Raises Unavailable when that fails each time."""
        failed = 0
        while True:
            worker = self._workers[number]
            await worker.wait()
            if self._workers[number] is not worker:  # a reload has put another one in its place
                continue
            error = await worker.failure()
            event(log, "worker ended", logging.ERROR, worker=number, pid=worker.pid, why=error.detail)
            failed = failed + 1 if await worker.has_failed() else 0
            while self._workers[number] is worker:
                if failed == MAX_FAILED_STARTS:
                    raise Unavailable(f"worker {number} could not start {failed} times in a row: {error.detail}")
                if failed:
                    await asyncio.sleep(min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failed))
                try:
                    await self._start_again(worker)
                except Unavailable as unavailable:  # there is no template, such as while the service is installed anew
                    error, failed = unavailable, failed + 1

    async def _start_again(self, worker: WorkerProcess) -> None:
        """Put another one in the place of a worker that has died, unless a reload does. Raises Unavailable."""
        number = worker.number
        if self._workers[number] is worker:
            fresh = await self._begin(number)
            if self._workers[number] is worker:
                self._workers[number] = fresh
            else:
                fresh.kill()

    async def _watch(self, number: int) -> None:
        """Kill the worker where its event loop stands still."""
        while True:
            worker = self._workers[number]
            ready, beats = worker.is_ready, worker.beats
            await asyncio.sleep(still_seconds(self._settings))
            if ready and worker.beats == beats and worker is self._workers[number] and not worker.has_ended:
                event(log, "worker stands still", logging.ERROR, worker=number, pid=worker.pid)
                worker.kill_still()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._wants_reload.wait()
            self._wants_reload.clear()
            event(log, "reload began")
            await self._forks.renew()
            try:
                await self._replace_followers()
                await self._replace_primary()
            except BebrError as error:
                event(log, "reload failed", logging.ERROR, why=error.detail)
            else:
                event(log, "reload ended")

    async def _replace_followers(self) -> None:
        """One after the other; those that were replaced end their requests beside each other."""
        ending: list[asyncio.Task[None]] = []
        try:
            for number in range(1, len(self._workers)):
                ending.append(asyncio.create_task(self._end_replaced(await self._replace_follower(number))))
        except BebrError:
            await asyncio.gather(*ending)
            raise
        await asyncio.gather(*ending)

    async def _replace_follower(self, number: int) -> WorkerProcess:
        """-> the old one, which takes no more connections."""
        fresh = await self._begin(number)
        try:
            await fresh.heard(Word.READY)
        except BaseException:
            fresh.kill()
            raise
        old, self._workers[number] = self._workers[number], fresh
        self._leaving.append(old)
        wait = self._settings.reload_wait_seconds
        old.say(Order.STOP, ends_service=False, linger_seconds=LINGER_SECONDS, finish_seconds=wait)
        return old

    async def _end_replaced(self, old: WorkerProcess) -> None:
        await old.end(LINGER_SECONDS + self._settings.reload_wait_seconds + END_SECONDS)
        self._leaving.remove(old)

    async def _replace_primary(self) -> None:
        """The next one is there, with all that it needs but the store, before the other workers wait for it."""
        fresh, old = await self._prepare(0), self._workers[0]
        try:
            await fresh.heard(Word.PREPARED)
        except BaseException:
            fresh.kill()
            raise
        wait = self._settings.reload_wait_seconds
        await old.ask(
            Order.DRAIN,
            Word.DRAINED,
            LINGER_SECONDS + wait + END_SECONDS,
            linger_seconds=LINGER_SECONDS,
            finish_seconds=wait,
        )
        async with self._held():
            old, self._workers[0] = self._workers[0], fresh  # another one where it has died meanwhile
            self._leaving.append(old)
            old.say(Order.STOP, ends_service=False, **AT_ONCE)
            await old.end(END_SECONDS)
            self._leaving.remove(old)
            fresh.say(Order.GO)
            await fresh.heard(Word.READY)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Nothing is under way from other workers to the primary; what takes too long is cut."""
        until, seconds = time.monotonic() + self._settings.reload_wait_seconds, FIRST_HOLD_SECONDS
        try:
            while not await self._hold(seconds, gives_up=True):
                if time.monotonic() > until:
                    await self._hold(SHUTDOWN_SECONDS, gives_up=False)
                    break
                self._release()
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, MAX_HOLD_SECONDS)
            yield
        finally:
            self._release()

    async def _hold(self, seconds: float, gives_up: bool) -> bool:
        """Whether nothing is under way any more. A worker that does not answer has nothing under way."""
        asked = (
            worker.ask(Order.HOLD, Word.HELD, seconds + SHUTDOWN_SECONDS, seconds=seconds, gives_up=gives_up)
            for worker in self._workers[1:]
        )
        answers = await asyncio.gather(*asked)
        return all(answer is None or answer["held"] for answer in answers)

    def _release(self) -> None:
        for worker in self._workers[1:]:
            worker.say(Order.RELEASE)

    async def _stop_all(self) -> None:
        """The primary last: others may wait for it."""
        for worker in self._workers[:1]:
            worker.say(Order.DRAIN, **AT_ONCE)
        for workers in (self._workers[1:] + self._leaving, self._workers[:1]):
            for worker in workers:
                worker.say(Order.STOP, ends_service=True, **AT_ONCE)
            await asyncio.gather(*(worker.end(END_SECONDS) for worker in workers))


def still_seconds(settings: Settings) -> float:
    """A worker that says nothing for so long is dead."""
    return max(MIN_STILL_SECONDS, settings.dead_loop_seconds)


def _run_folder(data_dir: Path, opened: ExitStack) -> Path:
    """A folder that only this user can open, and that nobody else uses; empty but for its lock."""
    folder = data_dir.absolute() / RUN_FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FolderLock(folder)
        lock.acquire()
    except OSError as error:
        raise InvalidOption(f"the folder {folder} cannot be used: {error}") from error
    opened.callback(lock.release)
    if len(os.fsencode(folder)) > MAX_PATH_BYTES:
        return Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bebr-")))
    _empty(folder)
    opened.callback(_empty, folder)
    return folder


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _probes(settings: Settings, folder: Path) -> "Probes | None":
    """Probes of the whole service, where a port for them is set. It lives: workers that do not are replaced."""
    if not settings.probe_port:
        return None
    from bebr.server.connections.probes import Probes
    from bebr.server.team.team import Team

    team = Team(folder, 0, settings.worker_count)
    address = settings.host, settings.probe_port
    probes = Probes(address, team.check_ready, lambda: 0.0, settings.dead_loop_seconds)
    probes.start()
    return probes


def supervise(settings: Settings, when_ready: Callable[[str], None]) -> None:
    """Serve with several workers until a signal. when_ready: told the address."""
    use_folder(settings)
    with listen(settings.host, settings.port) as listener:
        listener.setblocking(False)
        url = local_url(*listener.getsockname()[:2])
        asyncio.run(Supervisor(settings, listener, Waiting()).run(lambda: when_ready(url)))
