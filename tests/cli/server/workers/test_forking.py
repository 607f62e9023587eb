"""Workers are forked from a process that has imported what they need, and are children of the supervisor."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.server.workers.running import running_workers
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.server.workers.forking import Forks, exit_code
from bebr.cli.server.workers.process import STEADY_BEATS, has_failed


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


def test_a_worker_is_a_child_with_its_number_whose_exit_code_is_told_also_after_its_template_was_killed():
    async def run() -> None:
        forks = Forks()
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                for number in range(3):
                    ours, theirs = socket.socketpair()
                    with ours:
                        with theirs:
                            pid = await forks.fork(number, (theirs.fileno(), listener.fileno()))
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
