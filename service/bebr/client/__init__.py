"""The Python client: `Client` and `AsyncClient`, with the nouns of the HTTP API.

results      what comes back: frozen dataclasses
wire         vectors, frames and NDJSON bodies: values -> bytes
steps        one request, its retries, and how answers become errors of `bebr.errors`; no socket
operations   every operation once, as a flow of steps; so are
bulk         ingestion and jobs
fits         binarizers of a collection's own
versions     changes of the model
clients      the two transports that run a flow, blocking and asynchronous

Imports no more of bebr than its errors and the types of `core`.
"""

from bebr.client.clients import AsyncClient, Client
from bebr.client.operations import Search
from bebr.client.results import Fetched, ItemError, Job, JobState, Page, Point, SearchResult, WriteReport
from bebr.core.types import Hit

__all__ = [
    "AsyncClient",
    "Client",
    "Fetched",
    "Hit",
    "ItemError",
    "Job",
    "JobState",
    "Page",
    "Point",
    "Search",
    "SearchResult",
    "WriteReport",
]
