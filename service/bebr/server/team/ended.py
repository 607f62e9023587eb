"""What workers had counted that have ended, so that no sum over all workers ever becomes smaller.

What a worker has counted is written down when the primary shows it, and when the worker ends in good order. What one
that was killed had counted since then is not known to anybody.
"""

import os
import re
import threading
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import Metric

from bebr.server.team.whole import counted, read

SAID = "said-"
ENDED = "ended"
OF_COLLECTION = re.compile(r'[{,]collection="([^"]*)"')
HAS = "# has "
"""First line of that file: the processes that were added to it last, whose own files may still be there."""


class Ended:
    """In the folder of a team. For any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = threading.Lock()

    def note(self, process: str, metrics: Sequence[Metric]) -> None:
        """Write down what a process has counted. metrics: all of it."""
        with suppress(OSError):  # a full disk is told of elsewhere
            self._write(self._folder / f"{SAID}{process}", "", counted(metrics))

    def with_ended(
        self, said: Mapping[str, Sequence[Metric] | None], collections: Set[str] | None = None
    ) -> list[Metric]:
        """What processes have counted that do not answer. said: by process, empty where it does not answer; None: it
        has ended. What the others say is noted. collections: what was counted of others is forgotten; None: of none."""
        with self._one_at_a_time:
            for process, metrics in said.items():
                if metrics:
                    self.note(process, metrics)
            silent = {process for process, metrics in said.items() if metrics is not None and not metrics}
            ended = self._add_ended({process for process, metrics in said.items() if metrics is not None}, collections)
            return counted(read("".join([ended, *(self._said(process) for process in silent)])), collections)

    def _add_ended(self, alive: Set[str], collections: Set[str] | None) -> str:
        """Put what ended processes have counted into one file -> what it says."""
        path = self._folder / ENDED
        text = _read(path)
        has = text.partition("\n")[0].removeprefix(HAS).split() if text.startswith(HAS) else []
        for process in has:
            (self._folder / f"{SAID}{process}").unlink(missing_ok=True)
        files = [file for file in self._folder.glob(f"{SAID}*") if file.name.removeprefix(SAID) not in alive]
        is_clean = collections is None or set(OF_COLLECTION.findall(text)) <= collections
        if not files and is_clean:
            return text
        names = " ".join(file.name.removeprefix(SAID) for file in files)
        texts = [text, *map(_read, files)]
        try:
            self._write(path, f"{HAS}{names}\n", counted(read("".join(texts)), collections))
        except OSError:
            return "".join(texts)
        for file in files:
            file.unlink(missing_ok=True)
        return _read(path)

    def _said(self, process: str) -> str:
        return _read(self._folder / f"{SAID}{process}")

    def _write(self, path: Path, head: str, metrics: list[Metric]) -> None:
        temporary = path.with_name(f".{path.name}-{os.getpid()}")  # another process may write the same file
        temporary.write_bytes(head.encode() + generate_latest(_Values(metrics)))
        temporary.replace(path)


class _Values:
    """Values that were read."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
