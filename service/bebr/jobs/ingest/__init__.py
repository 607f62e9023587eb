"""Bulk ingestion: a body of any length goes to disk, and a job writes it to a collection in the background.

    ingestion  one job: its state, and how that is kept on disk
    spool      the streamed body -> a file, within limits
    lines      the file -> batches of points, one line at a time
    runner     batches -> engine, several at once, so that the encoder never waits
    jobs       all of them: they wait in line, run one at a time, survive a restart, and are forgotten in the end

A job that was accepted is never lost: its body was synced to disk before, and a restart resumes it after the last
applied line.
"""

from bebr.jobs.ingest.jobs import IngestJobs

__all__ = ["IngestJobs"]
