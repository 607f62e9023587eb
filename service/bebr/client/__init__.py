"""The Python client: `Client` and `AsyncClient`, with the nouns of the HTTP API.

results      what the client returns: frozen dataclasses
values       Python values as JSON, and what JSON cannot say
wire         vectors, frames and NDJSON bodies: values -> bytes
steps        one request, its retries, and how responses become errors of `bebr.errors`; no socket
collections  collections, aliases, bundles, members; every operation is written once, as a flow of steps
points       points and searches
frames       vectors and records of many points, in binary frames
bulk         bulk ingestion and jobs, as flows
fits         fitting a binarizer to a collection, as flows
versions     code versions of a collection, as flows
clients      the two transports that run a flow, blocking and asynchronous

Imports only the errors of bebr and the types of `core`.
"""

from bebr.client.clients import AsyncClient, Client
from bebr.client.points import Search
from bebr.client.results import Fetched, ItemError, Job, Page, Point, SearchResult, WriteReport
from bebr.core.types import Hit, JobState

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
