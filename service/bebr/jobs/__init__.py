"""Bulk ingestion: a body of any length goes to disk, and a job applies it to a collection in the background.

    job      one job: its state, and how that is kept on disk
    spool    the streamed body -> a file, within limits
    lines    the file -> batches of points, one line at a time
    runner   batches -> engine, several at once, so that the encoder never waits
    jobs     all jobs: queue, resume after a restart, cancel

A job that was answered with 202 is never lost: its body was synced to disk before, and a restart resumes it after the
last applied line.
"""

from bebr.jobs.job import Job, JobState
from bebr.jobs.queue import IngestJobs

__all__ = ["IngestJobs", "Job", "JobState"]
