"""Workers are forked from a process that has imported what they need, and are children of the supervisor."""

import asyncio
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.server.workers.running import running_workers
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.workers import forking
from bebr.cli.server.workers import supervisor as supervising
from bebr.cli.server.workers.control import Word
from bebr.cli.server.workers.forking import Forks, exit_code
from bebr.cli.server.workers.process import STEADY_BEATS, has_failed
from bebr.cli.server.workers.supervisor import MAX_FAILED_STARTS, Supervisor
from bebr.config import Settings
from bebr.errors import Unavailable


@pytest.fixture(autouse=True)
def adopting() -> Iterator[None]:
    """The process of the tests takes in orphans no longer than these tests run."""
    yield
    ctypes.CDLL(None).prctl(forking._SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_what_workers_are_forked_from_has_no_threads_that_they_would_lack():
    """Those of OpenBLAS are left out: its library ends them before a fork, and starts them again."""
    program = """
import os, sys
import bebr.bootstrap
from bebr.cli.server.workers import worker
print(len(os.listdir("/proc/self/task")), "onnxruntime" in sys.modules)
"""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert ended.stdout.split() == ["1", "False"]


def test_what_keeps_the_workers_is_small():
    """It lives as long as the service, beside all of them: no server, no client, no arrays."""
    program = """
import sys
from bebr.cli.server import serve
from bebr.cli.server.workers import supervisor
print(*sorted({"fastapi", "httpx", "numpy", "pydantic", "uvicorn"} & sys.modules.keys()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert ended.stdout.split() == []


def test_a_worker_is_a_child_with_its_number_whose_exit_code_is_told_also_after_its_template_was_killed():
    async def run() -> None:
        forks = Forks()
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                for number in range(3):
                    pid, ours = await forks.fork(number, listener.fileno())
                    with ours:
                        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                        assert int(stat[1]) == os.getpid()
                        name = f"worker={number}"
                        wait_until(lambda p=pid, n=name: n in _command(p), "it has its name")  # type: ignore[misc]
                        if number == 1:
                            assert forks._template is not None
                            forks._template.kill()
                            os.kill(pid, signal.SIGKILL)
                    assert await exit_code(pid) == (-signal.SIGKILL if number == 1 else 0)
        finally:
            await forks.renew()

    asyncio.run(run())


PLAYED = """
import os, socket, sys
from pathlib import Path
folder = Path({folder!r})
channel = socket.socket(fileno=int(sys.argv[1]))
_, (control, listener), _, _ = socket.recv_fds(channel, 16, 2)
is_first = not (folder / "heard").exists()
(folder / "heard").touch()
worker = os.fork()
if not worker:
    channel.close()
    while said := os.read(control, 100):
        (folder / ("first" if is_first else "second")).write_bytes(said)
    (folder / ("first" if is_first else "second")).with_suffix(".ended").touch()
    os._exit(0)
if not is_first:
    channel.send(b"%d" % worker)
    channel.recv(1)
"""
"""A template that forks a worker; the first one is killed before it has said so."""


def test_a_worker_that_nobody_knows_of_ends_and_hears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async def run() -> None:
        forks = Forks()
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                _, ours = await forks.fork(0, listener.fileno())
            with ours:
                wait_until((tmp_path / "first.ended").exists, "the first one ends")
                ours.sendall(b"start")
                wait_until((tmp_path / "second").exists, "the second one is told")
        finally:
            await forks.renew()

    monkeypatch.setattr(forking, "COMMAND", (sys.executable, "-c", PLAYED.format(folder=str(tmp_path))))
    asyncio.run(run())
    assert not (tmp_path / "first").exists()


def test_a_service_whose_template_cannot_start_tries_again_before_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As while another release is being installed."""
    tries = tmp_path / "tries"
    broken = f"open({str(tries)!r}, 'a').write('x')"

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            supervisor = Supervisor(Settings(data_dir=tmp_path), listener, lambda reason: None)
            worker = await supervisor._prepare(0)
            supervisor._workers.append(worker)
            await supervisor._forks.renew()
            monkeypatch.setattr(forking, "COMMAND", (sys.executable, "-c", broken))
            worker.kill()
            with pytest.raises(Unavailable, match=f"{MAX_FAILED_STARTS} times in a row"):
                await supervisor._keep(0)
            await supervisor._forks.renew()
            await worker.end(0)

    (tmp_path / "heard").touch()
    monkeypatch.setattr(forking, "COMMAND", (sys.executable, "-c", PLAYED.format(folder=str(tmp_path))))
    monkeypatch.setattr(supervising, "FIRST_PAUSE_SECONDS", 0.0)
    asyncio.run(run())
    assert len(tries.read_text()) == 2 * (MAX_FAILED_STARTS - 1)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")


def test_a_service_goes_on_and_replaces_workers_where_their_template_is_killed(tmp_path: Path):
    with running_workers(tmp_path, 2) as workers:
        children = Path(f"/proc/{workers.process.pid}/task/{workers.process.pid}/children").read_text().split()
        (template,) = {int(child) for child in children} - set(workers.pids().values())
        before = workers.pids()
        os.kill(template, signal.SIGKILL)
        workers.kill(1)
        workers.wait_for_worker(1, before[1])
        workers.connection(1).close()
        assert workers.pids()[0] == before[0]
        assert re.search(r"worker ended .*signal 9", workers.log)


@pytest.mark.parametrize(
    ("beats", "code", "expected"),
    [
        (None, 1, True),
        (None, -signal.SIGKILL, True),
        (0, 1, True),
        (0, -signal.SIGSEGV, True),
        (STEADY_BEATS - 1, -signal.SIGABRT, True),
        (STEADY_BEATS, -signal.SIGABRT, False),
        (0, -signal.SIGKILL, False),
        (0, -signal.SIGTERM, False),
        (0, 0, False),
    ],
)
def test_a_worker_that_ends_by_itself_soon_after_it_was_ready_has_failed_to_start(
    beats: int | None, code: int, expected: bool
):
    assert has_failed(beats, code) is expected


def test_a_worker_that_stands_still_soon_after_it_was_ready_has_failed_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The supervisor kills it; others that are killed by somebody have not."""

    async def has_failed_when(kill: str) -> bool:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            supervisor = Supervisor(Settings(data_dir=tmp_path), listener, lambda reason: None)
            worker = await supervisor._prepare(0)
            await supervisor._forks.renew()  # its child becomes this process's
            worker._said[Word.READY].set()
            getattr(worker, kill)()
            failed = await worker.has_failed()
            await worker.end(0)
            return failed

    (tmp_path / "heard").touch()
    monkeypatch.setattr(forking, "COMMAND", (sys.executable, "-c", PLAYED.format(folder=str(tmp_path))))
    assert asyncio.run(has_failed_when("kill_still"))
    assert not asyncio.run(has_failed_when("kill"))
