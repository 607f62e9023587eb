"""What fits that are computed now are doing: known to the process that computes them, and told to its followers in a
small file, which is lost at no cost."""

import json
import threading
from contextlib import suppress
from pathlib import Path

from bebr.core.types import Role

NAME = "shared-fits"


class FitProgress:
    """By uid of the collection. May be used from any thread."""

    def __init__(self, folder: Path, role: Role = Role.PRIMARY, shares: bool = False) -> None:
        """folder: where the data is. shares: followers are told."""
        self._path = folder / NAME
        self._follows = role is Role.FOLLOWER
        self._shares = shares
        self._details: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, uid: str) -> str | None:
        """None: no fit is computed."""
        return (self._told() if self._follows else self._details).get(uid)

    def begin(self, uid: str, detail: str) -> None:
        with self._lock:
            self._details[uid] = detail
            self._tell()

    def say(self, uid: str, detail: str) -> None:
        """Of a fit that goes on; one that ended says nothing any more."""
        with self._lock:
            if uid in self._details:
                self._details[uid] = detail
                self._tell()

    def end(self, uid: str) -> None:
        with self._lock:
            del self._details[uid]
            self._tell()

    def start(self) -> None:
        """This process has just begun: nothing is computed, whatever was when the last one ended."""
        self._tell()

    def _tell(self) -> None:
        """Replace the file; where there is no room for it, nobody is told."""
        if self._shares:
            with suppress(OSError):
                temporary = self._path.with_name(f"{NAME}.tmp")
                temporary.write_text(json.dumps(self._details))
                temporary.replace(self._path)

    def _told(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._path.read_bytes())
        except (OSError, ValueError):  # there is none, or it was cut off
            return {}
        return found
