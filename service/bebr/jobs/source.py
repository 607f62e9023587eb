"""The jobs of one kind, as the queue sees them."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from bebr.engine.collections.collection import Collection
from bebr.errors import Conflict, JobNotFound
from bebr.jobs.job import Job, JobKind


class JobSource(ABC):
    """The jobs of one kind. What a kind cannot do is a Conflict."""

    kind: ClassVar[JobKind]

    @abstractmethod
    def all(self) -> Sequence[Job]:
        """All of them, in no order. Raises NotReady before it is known which there are."""

    @abstractmethod
    async def start(self) -> None:
        """Resume what the last run of the service left unfinished."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop everything; the next start resumes it."""

    def changed(self, collection: Collection) -> None:
        """Start or stop what is due after a change of a collection. Called after every write: it must be cheap."""
        return

    async def closing(self, collection: Collection) -> None:
        """End at once what is running for a collection that is about to be closed. Its registry is locked."""
        return

    async def pause(self, job: Job) -> None:
        """Pause a job, also over restarts."""
        raise Conflict(f"job {job.id} is of kind '{self.kind}', which cannot be paused", job=job.id)

    async def resume(self, job: Job) -> None:
        """Resume a paused job."""
        raise Conflict(f"job {job.id} is of kind '{self.kind}', which cannot be paused or resumed", job=job.id)

    async def cancel(self, job: Job) -> None:
        """Cancel a job; what it applied stays. No effect on a job that has ended."""
        raise Conflict(f"job {job.id} is of kind '{self.kind}', which cannot be cancelled", job=job.id)

    def errors(self, job: Job) -> AsyncIterator[bytes]:
        """The rejected lines of a job as NDJSON, in pieces."""
        raise JobNotFound(f"job {job.id} is of kind '{self.kind}', which has no rejected lines", job=job.id)
