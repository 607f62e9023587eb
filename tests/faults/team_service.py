"""A service of several processes, to be killed in parts."""

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
from tests.cli.server.workers.running import Workers
from tests.waiting import wait_until

from faults.service import Service

ANSWER_SECONDS = 20.0
"""Who does not answer within this time is asked again."""


class TeamService(Service):
    """A supervisor and its workers."""

    @property
    def workers(self) -> Workers:
        assert self._process is not None
        return Workers(self._process, self._log)

    def processes(self) -> set[int]:
        """All that serve from this folder, also those whose supervisor has died."""
        folder = f"\0BEBR_DATA_DIR={self._environment['BEBR_DATA_DIR']}\0".encode()
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if folder in b"\0" + (path / "environ").read_bytes() and lives(int(path.name)):
                    found.add(int(path.name))
        return found

    def kill_all(self) -> None:
        """Every process at once, as when the machine is lost."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)

    def end_all(self) -> None:
        """The same, until there are none: one may just be starting another."""

        def has_ended() -> bool:
            self.kill_all()
            return not self.processes() and not self.runs

        wait_until(has_ended, "all have ended")

    def come_back(self, count: int, killed: set[int], patience_seconds: float) -> None:
        """Return when so many workers serve, none of them killed. A service that has ended is started, and a reload
        that has failed is asked for again, as an operator does."""
        failed_reloads = self._failed_reloads()

        def is_back() -> bool:
            nonlocal failed_reloads
            if not self.runs:
                self.launch()
                time.sleep(0.1)
            if not self._answers_ready():
                return False
            pids = self.workers.pids() if self.runs else {}
            if len(pids) == count and not killed & set(pids.values()):
                return True
            if self.runs and self._failed_reloads() > failed_reloads:
                failed_reloads = self._failed_reloads()
                os.kill(self.pid, signal.SIGHUP)
            return False

        wait_until(is_back, "all workers serve", patience_seconds)

    def _answers_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=ANSWER_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def _failed_reloads(self) -> int:
        return len(re.findall(r"supervisor: reload failed", self._log.read_text("utf-8", "replace")))

    def state(self) -> str:
        """What its processes do, and the end of its log, for whoever wants to know why it does not serve."""
        processes = [f"{pid} {_command(pid)}" for pid in sorted(self.processes())]
        lines = [line for line in self.log.splitlines() if "bebr.requests" not in line]
        return "\n".join([f"runs: {self.runs}", *processes, *lines[-30:]])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[-60:]
    return "ended"
