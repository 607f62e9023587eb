"""One ingestion job: what it is, how far it got, and the folder that remembers both."""

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from bebr.core.types import WriteMode
from bebr.disk import replace_file
from bebr.errors import DamagedStore

FORMAT = 1
STATE_FILE = "job.json"
ERRORS_FILE = "errors.ndjson"
BODY_FILE = "body"
BODY_FILE_GZIP = "body.gz"


class JobState(StrEnum):
    """A job ends as succeeded, failed or cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class Progress:
    """How far a job is. Everything up to `line` (which ends at `offset` of the unzipped body) is done.

    errors_size_bytes: size of errors.ndjson at that point; what follows was written by a run that died.
    """

    line: int = 0
    offset: int = 0
    received: int = 0
    applied: int = 0
    rejected: int = 0
    errors_size_bytes: int = 0


@dataclass(slots=True)
class Job:
    """One job. Only its runner changes it; everyone else reads.

    version: that was active when it was sent, or that it was declared to be of: vectors and codes are of no other.
    """

    id: str
    folder: Path
    collection: str
    mode: WriteMode
    gzip: bool
    body_size_bytes: int
    batch_points: int
    version: str | None = None
    created_at: float = field(default_factory=time.time)
    state: JobState = JobState.QUEUED
    detail: str | None = None
    finished_at: float | None = None
    progress: Progress = field(default_factory=Progress)
    cancelled: bool = False
    rate_per_s: float = 0.0
    eta_s: float | None = None
    _saving: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def body_path(self) -> Path:
        return self.folder / (BODY_FILE_GZIP if self.gzip else BODY_FILE)

    @property
    def errors_path(self) -> Path:
        return self.folder / ERRORS_FILE

    @property
    def ended(self) -> bool:
        return self.state not in (JobState.QUEUED, JobState.RUNNING)

    def to_json(self) -> dict[str, Any]:
        """The job as the API shows it."""
        progress = self.progress
        return {
            "job": self.id,
            "kind": "ingest",
            "collection": self.collection,
            "mode": str(self.mode),
            "version": self.version,
            "state": str(self.state),
            "received": progress.received,
            "applied": progress.applied,
            "rejected": progress.rejected,
            "line": progress.line,
            "rate_per_s": round(self.rate_per_s, 1),
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "detail": self.detail,
            "created_at": _iso(self.created_at),
            "finished_at": None if self.finished_at is None else _iso(self.finished_at),
        }

    def save(self, state: JobState | None = None) -> None:
        """Write the job so that a crash leaves the old file or the new one. Blocks on fsync.

        `state`: the one to write, where others may see it only once it is durable.
        """
        kept = {
            "format": FORMAT,
            "id": self.id,
            "collection": self.collection,
            "mode": str(self.mode),
            "gzip": self.gzip,
            "body_size_bytes": self.body_size_bytes,
            "batch_points": self.batch_points,
            "version": self.version,
            "created_at": self.created_at,
            "state": str(state or self.state),
            "detail": self.detail,
            "finished_at": self.finished_at,
            "cancelled": self.cancelled,
            "progress": asdict(self.progress),
        }
        with self._saving:
            replace_file(self.folder / STATE_FILE, json.dumps(kept).encode())

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Raises DamagedStore when job.json is missing or is not what `save` wrote."""
        try:
            kept = json.loads((folder / STATE_FILE).read_bytes())
            if kept.pop("format") != FORMAT:
                raise ValueError("unknown format")
            kept |= {"mode": WriteMode(kept["mode"]), "state": JobState(kept["state"])}
            return cls(folder=folder, **(kept | {"progress": Progress(**kept["progress"])}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedStore(f"{folder / STATE_FILE} cannot be read: {error}", path=str(folder)) from error


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
