"""`bebr serve --workers N` as processes, of which each can be reached, and killed, by its number."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from tests.waiting import PATIENCE_SECONDS, wait_until

BEBR = [sys.executable, "-c", "from bebr.cli import main; main()"]


class Workers:
    """A running service. log: where it writes its lines."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log
        self.folder = log.parent
        self.url = httpx.URL(wait_until(self._address, "the service says where it is"))

    def _address(self) -> str | None:
        found = re.search(r"is ready at (http://\S+)", self.log)
        assert found or self.process.poll() is None, self.log
        return found[1] if found else None

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def pids(self) -> dict[int, int]:
        """The process of each worker, by its number."""
        found = {}
        for name in Path("/proc").glob("[0-9]*"):
            try:
                parent = (name / "stat").read_text().rpartition(")")[2].split()[1]
                number = re.search(rb"\0worker=(\d+)\0", (name / "cmdline").read_bytes())
            except OSError:
                continue  # it has just ended
            if number and int(parent) == self.process.pid:
                found[int(number[1])] = int(name.name)
        return found

    def connection(self, number: int) -> http.client.HTTPConnection:
        """A connection to this worker."""
        others = []
        try:
            since = time.monotonic()
            while time.monotonic() - since < PATIENCE_SECONDS:
                connection = http.client.HTTPConnection(self.url.host, self.url.port, timeout=PATIENCE_SECONDS)
                others.append(connection)
                connection.request("GET", "/livez")
                assert connection.getresponse().read()
                pid = self.pids().get(number)
                if pid is not None and _inode(connection) in _sockets(pid):
                    return others.pop()
                time.sleep(0.01)
            raise AssertionError(f"worker {number} took none of {len(others)} connections")
        finally:
            for other in others:
                other.close()

    def wait_for_worker(self, number: int, after: int) -> None:
        """Return when another process than `after` is this worker."""
        wait_until(lambda: self.pids().get(number, after) != after, f"worker {number} is replaced")

    def kill(self, number: int) -> None:
        os.kill(self.pids()[number], signal.SIGKILL)


def is_read(connection: http.client.HTTPConnection) -> bool:
    """Whether the service has taken in all that was sent."""
    end = _service_end(connection)
    return end is not None and end[4].endswith(":00000000")


def _inode(connection: http.client.HTTPConnection) -> str | None:
    end = _service_end(connection)
    return None if end is None else end[9]


def _service_end(connection: http.client.HTTPConnection) -> list[str] | None:
    """What the system knows of the service's end of a connection, unless that is closed."""
    if connection.sock is None:
        return None
    ours, theirs = (f"{port:04X}" for port in (connection.sock.getsockname()[1], connection.sock.getpeername()[1]))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_ = fields = line.split()
        if local.endswith(f":{theirs}") and remote.endswith(f":{ours}"):
            return fields
    return None


def _sockets(pid: int) -> set[str]:
    links = []
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # the worker has just ended
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it has just been closed: the worker may be starting
                links.append(str(path.readlink()))
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


PATIENT = {
    "BEBR_REQUEST_TIMEOUT_SECONDS": "120",
    "BEBR_STORE_TIMEOUT_SECONDS": "60",
    "BEBR_READ_WAIT_SECONDS": "120",
    "BEBR_PRIMARY_WAIT_SECONDS": "120",
}
"""A busy machine may take longer than people wait."""


@contextmanager
def running_workers(folder: Path, count: int, **variables: str) -> Iterator[Workers]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("BEBR_")}
    env |= PATIENT | variables
    log = folder / "log"
    with log.open("wb") as lines:
        arguments = ["serve", "--workers", str(count), "--port", "0", "--data-dir", str(folder / "data")]
        process = subprocess.Popen([*BEBR, *arguments], stdout=lines, stderr=lines, env=env)
    try:
        yield Workers(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()
