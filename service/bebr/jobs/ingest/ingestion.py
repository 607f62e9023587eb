"""One bulk ingestion: what it is, how far it got, and the folder that remembers both."""

import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from bebr.core.types import JobState, WriteMode
from bebr.disk import replace_file
from bebr.errors import DamagedStore
from bebr.jobs.job import IngestJob, JobKind

FORMAT = 1
STATE_FILE = "job.json"
ERRORS_FILE = "errors.ndjson"
BODY_FILE = "body"
BODY_FILE_GZIP = "body.gz"


@dataclass(slots=True)
class Progress:
    """How far an ingestion is."""

    line: int = 0
    """Lines that are done."""
    offset: int = 0
    """Where that line ends in the unzipped body."""
    received: int = 0
    """Points that were read."""
    applied: int = 0
    """Points that were written."""
    rejected: int = 0
    """Points that were refused."""
    errors_size_bytes: int = 0
    """Size of errors.ndjson at that point; what follows was written by a run that died."""


@dataclass(slots=True)
class Ingestion:
    """The state of one job. Only its runner, and the queue before and after it, change it."""

    id: str
    folder: Path
    """Holds its body, its state and its rejected lines."""
    collection: str
    """Name of the collection."""
    mode: WriteMode
    gzip: bool
    """Whether the body is zipped."""
    body_size_bytes: int
    """As it lies on disk."""
    batch_points: int
    """Points of one write."""
    body_sha256: str | None = None
    """Of the body as it lies on disk; None for jobs of older releases."""
    version: str | None = None
    """Id of the version that was active when it was sent, or that it was declared to be of. Vectors and codes are of no
    other."""
    created_at: float = field(default_factory=time.time)
    """Seconds since 1970."""
    state: JobState = JobState.QUEUED
    detail: str | None = None
    """What it waits for, or why it failed."""
    finished_at: float | None = None
    """Seconds since 1970."""
    progress: Progress = field(default_factory=Progress)
    cancelled: bool = False
    """Whether it is to be cancelled."""
    from_disk: bool = False
    """Whether an earlier run of the service left it: its body may have changed since."""
    rate_per_s: float = 0.0
    """Points per second of this run."""
    eta_s: float | None = None
    """Seconds left, about."""
    _saving: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def body_path(self) -> Path:
        return self.folder / (BODY_FILE_GZIP if self.gzip else BODY_FILE)

    @property
    def errors_path(self) -> Path:
        return self.folder / ERRORS_FILE

    def job(self) -> IngestJob:
        """What others see of it."""
        progress = self.progress
        return IngestJob(
            id=self.id,
            kind=JobKind.INGEST,
            collection=self.collection,
            version=self.version,
            state=self.state,
            detail=self.detail,
            created_at=self.created_at,
            finished_at=self.finished_at if self.state.ended else None,
            mode=self.mode,
            line=progress.line,
            received=progress.received,
            applied=progress.applied,
            rejected=progress.rejected,
            rate_per_s=self.rate_per_s,
            eta_s=self.eta_s,
        )

    def save(self, state: JobState | None = None) -> None:
        """Write it so that a crash leaves the old file or the new one. Blocks on fsync.

        state: the one to write, where others may see it only once it is durable.
        """
        kept = {
            "format": FORMAT,
            "id": self.id,
            "collection": self.collection,
            "mode": str(self.mode),
            "gzip": self.gzip,
            "body_size_bytes": self.body_size_bytes,
            "batch_points": self.batch_points,
            "body_sha256": self.body_sha256,
            "version": self.version,
            "created_at": self.created_at,
            "state": str(state or self.state),
            "detail": self.detail,
            "finished_at": self.finished_at,
            "cancelled": self.cancelled,
            "progress": asdict(self.progress),
        }
        kept["crc32"] = _checksum(kept)
        with self._saving:
            replace_file(self.folder / STATE_FILE, json.dumps(kept).encode())

    def check_body(self) -> None:
        """Raise DamagedStore unless the body is what was sent. It reads all of it: call it in a thread."""
        try:
            with self.body_path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            found = "none: the file is missing"
        if self.body_sha256 not in (None, found):
            raise DamagedStore(
                f"the body of job {self.id} has changed ({self.body_path}: SHA-256 {found:.24}); send it again",
                path=str(self.body_path),
            )

    @classmethod
    def load(cls, folder: Path) -> "Ingestion":
        """Raises DamagedStore when job.json is missing or is not what `save` wrote."""
        try:
            kept = json.loads((folder / STATE_FILE).read_bytes())
            checksum = kept.pop("crc32", None)  # older releases wrote none
            if checksum not in (None, _checksum(kept)):
                raise ValueError("it does not match its checksum")
            if kept.pop("format") != FORMAT:
                raise ValueError("unknown format")
            kept |= {"mode": WriteMode(kept["mode"]), "state": JobState(kept["state"])}
            return cls(folder=folder, **(kept | {"progress": Progress(**kept["progress"])}))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedStore(f"{folder / STATE_FILE} cannot be read: {error}", path=str(folder)) from error

    @classmethod
    def damaged(cls, folder: Path, reason: str) -> "Ingestion":
        """What is known of a job whose state cannot be read: that it failed."""
        return cls(
            id=folder.name,
            folder=folder,
            collection="",
            mode=WriteMode.UPSERT,
            gzip=False,
            body_size_bytes=0,
            batch_points=0,
            created_at=folder.stat().st_mtime,
            state=JobState.FAILED,
            detail=f"{reason}; its folder is kept, send the body again",
        )


def _checksum(kept: dict[str, Any]) -> str:
    return f"{crc32(json.dumps(kept).encode()):08x}"
