"""Jobs: work that goes on in the background, longer than a request, and over restarts of the service.

job        what a job is for those who ask: its kind, state and progress, as of now
runner     runs one job: waits while the store is away, stops when it is told to, and says how it ended
source     the jobs of one kind, as the queue sees them
per_collection  the same where at most one runs for each collection
queue      all jobs of all kinds: list, get, pause, resume, cancel
ingest/    bulk ingestion: a body of any length goes to disk, and a job writes it to a collection
backfill   re-encodes points as the active version
fields     makes the columns of filterable fields that were added to points that there are
fit        fits a binarizer to the buffered embeddings of a collection, and re-encodes them
"""

from bebr.core.types import JobState
from bebr.jobs.backfill import BackfillJobs
from bebr.jobs.fit import FitJobs
from bebr.jobs.ingest import IngestJobs
from bebr.jobs.job import BackfillJob, FieldsJob, FitJob, IngestJob, Job, JobKind
from bebr.jobs.queue import JobQueue

__all__ = [
    "BackfillJob",
    "BackfillJobs",
    "FieldsJob",
    "FitJob",
    "FitJobs",
    "IngestJob",
    "IngestJobs",
    "Job",
    "JobKind",
    "JobQueue",
    "JobState",
]
