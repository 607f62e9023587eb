"""Sends odd requests to the app in this process and keeps what no caller may ever see: errors of ours, hangs, stops.

Requests are made before they are sent, so that nothing but the service runs meanwhile; the thread's processor time, not
the clock, says for how long the event loop was stopped, because other processes may hold up this one.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from fastapi import FastAPI
from tests.core.odd_filters import FIELDS as ODD_FIELDS
from tests.faults.odd_requests import OddRequest, OddRequests
from tests.faults.odd_values import DIMS
from tests.waiting import until

from bebr.bootstrap import build_app
from bebr.config import OnFitDrift, Settings

FIELDS = {key: str(kind) for key, kind in ODD_FIELDS.items()}
COLLECTIONS: dict[str, dict[str, Any]] = {
    "codes": {"code": "24x2", "filterable": FIELDS},
    "vectors": {"fit": {"bytes": 8, "sample": 150, "dims": DIMS}, "filterable": FIELDS, "shards": 1},
    "texts": {"bundle": "tiny@1", "text_field": "text", "filterable": FIELDS},
    "finer": {"fit": {"bytes": 8, "rescore_bytes": 24, "sample": 150, "dims": DIMS}, "filterable": FIELDS},
}
"""Made again when a request has deleted them."""
FITTED = "finer"
"""The one that is filled when it is made, so that it is fitted and has rescore codes."""
KEYS = {"api_keys": ("a-key-of-the-fuzzer",), "read_only_api_keys": ("a-key-that-reads",), "key_requests_per_s": 10**6}
"""Settings of a service with keys, of which most requests have one."""
NAMES = [*COLLECTIONS, *COLLECTIONS, "s0", "s1", "prod", "absent"]
OPENAI_SHAPED = ("/v1/embeddings", "/v1/models")
"""Errors of these are in the shape that OpenAI's clients read."""
HANG_SECONDS = 120.0
TICK_SECONDS = 0.002
STATED = (503, 507)
"""Statuses of the service's own that are answers: it is not ready, or has no room."""


@dataclass
class Report:
    """What came of it."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_route: dict[str, Counter[int]] = field(default_factory=dict)
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)
    """What must not be: how often, and the first request that did it."""
    longest_stop: tuple[float, str] = (0.0, "")
    """Processor seconds for which the event loop did nothing else, and what was under way."""

    def add(self, request: OddRequest, status: int, problem: str | None) -> None:
        self.statuses[status] += 1
        self.by_route.setdefault(request.route, Counter())[status] += 1
        if problem is not None:
            count, first = self.faults.get(f"{request.route}: {problem}", (0, str(request)))
            self.faults[f"{request.route}: {problem}"] = (count + 1, first)

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())


class Watch:
    """Measures for how long the event loop was stopped."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.under_way: set[OddRequest] = set()
        self.recent: list[OddRequest] = []
        """Started since the loop was last seen to go on."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            before = time.thread_time()
            self.recent = [*self.under_way]
            await asyncio.sleep(TICK_SECONDS)
            stopped = time.thread_time() - before
            if stopped > self._report.longest_stop[0]:
                self._report.longest_stop = (stopped, " | ".join(map(str, self.recent)))

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def served(folder: Path, **changes: Any) -> AsyncIterator[FastAPI]:
    """A ready app on `folder`, with limits that a fuzzer reaches."""
    small: dict[str, Any] = {
        "head_rows": 64, "min_free_disk_bytes": 0, "max_collections": 9, "encoder_threads": 1, "coverage_one_in": 5,
        "fit_rest_seconds": 0.1, "on_fit_drift": OnFitDrift.REFIT,
    }  # fmt: skip
    settings = Settings(**({"data_dir": folder / "data", "bundles_dir": folder / "bundles"} | small | changes))
    app = build_app(settings)
    async with app.router.lifespan_context(app):

        async def is_ready() -> bool:
            return (await send(app, OddRequest("GET", "/readyz")))[0] == 200

        await until(is_ready, "/readyz")
        yield app


async def fuzz(
    app: FastAPI,
    seed: int,
    count: int,
    *,
    batch: int = 200,
    abreast: int = 4,
    after: Callable[[Report], None] | None = None,
    keys: Sequence[str] = (),
) -> Report:
    """Send `count` requests. after: called after each batch. keys: of the service, the first of which may write."""
    report, requests = Report(), OddRequests(app.openapi(), seed, NAMES, [key.encode() for key in keys])
    while report.sent < count:
        await _make_collections(app, keys)
        waiting = iter([requests.next() for _ in range(min(batch, count - report.sent))])
        watch = Watch(report)

        async def run(waiting: Any = waiting, watch: Watch = watch) -> None:
            for request in waiting:
                watch.under_way.add(request)
                watch.recent.append(request)
                status, problem, answer = await _tried(app, request)
                watch.under_way.discard(request)
                report.add(request, status, problem)
                requests.seen.learn(answer)
                await asyncio.sleep(0)  # as a server does between two requests

        await asyncio.gather(*(run() for _ in range(abreast)))
        await watch.stop()
        if after is not None:
            after(report)
    return report


async def _make_collections(app: FastAPI, keys: Sequence[str]) -> None:
    headers = tuple((b"api-key", key.encode()) for key in keys[:1])
    rows = np.random.default_rng(0).normal(size=(300, DIMS)).round(3).tolist()
    metadata = [{"word": f"w{n % 7}", "whole": n, "words": [f"w{n % 3}", f"w{n % 5}"]} for n in range(len(rows))]
    made_points = [{"id": f"p{n}", "vector": row, "metadata": metadata[n]} for n, row in enumerate(rows)]
    points = json.dumps({"points": made_points}).encode()
    for name, body in COLLECTIONS.items():
        path = f"/v1/collections/{name}"
        made = OddRequest("PUT", path, headers=headers, chunks=(json.dumps(body).encode(),))
        if (await send(app, made))[0] == 200 and name == FITTED:
            await send(app, OddRequest("POST", f"{path}/points", headers=headers, chunks=(points,)))


async def _tried(app: FastAPI, request: OddRequest) -> tuple[int, str | None, Any]:
    """-> (status, what is wrong with the answer, the answer). A caller who hangs up gets none: status 0."""
    try:
        async with asyncio.timeout(HANG_SECONDS):
            status, headers, body = await send(app, request)
    except TimeoutError:
        return -1, f"no answer within {HANG_SECONDS:.0f} s", None
    except Exception as error:
        return -2, f"raised {type(error).__name__}: {error!s:.100}", None
    if status == 0:
        return 0, None if request.hangs_up else "no answer", None
    if status >= 500 and status not in STATED:
        return status, f"{status} {body[:200]!r}", None
    kind = headers.get("content-type", "")
    if headers.get("content-encoding") == "gzip" or request.method == "HEAD" or not body:
        return status, None, None
    if status >= 400 and kind != "application/problem+json" and not request.path.startswith(OPENAI_SHAPED):
        return status, f"{status} is no problem document: {body[:100]!r}", None
    try:
        return status, None, json.loads(body) if "json" in kind and "ndjson" not in kind else None
    except ValueError as error:
        return status, f"the answer is no JSON: {error}", None


async def send(app: FastAPI, request: OddRequest) -> tuple[int, dict[str, str], bytes]:
    """What a server would do with the request. -> (status, headers, body); status 0: nothing was answered."""
    chunks = list(request.chunks)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks) - 1} for n, chunk in enumerate(chunks)
    ]
    if request.hangs_up:
        messages[-1] = {"type": "http.disconnect"}
    waiting = iter(messages)
    status, headers, body = 0, dict[str, str](), bytearray()
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if (message := next(waiting, None)) is not None:
            return message
        await done.wait()
        return {"type": "http.disconnect"}

    async def answer(message: dict[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {key.decode().lower(): value.decode("latin-1") for key, value in message["headers"]}
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                done.set()

    sent_headers = [(b"content-type", request.content_type)] if request.content_type else []
    if not any(name == b"content-length" for name, _ in request.headers):
        sent_headers.append((b"content-length", str(sum(map(len, chunks))).encode()))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method, "scheme": "http",
        "path": unquote(request.path), "raw_path": request.path.encode(), "root_path": "",
        "query_string": request.query.encode(), "headers": [(b"host", b"localhost"), *sent_headers, *request.headers],
        "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip
    try:
        await app(scope, receive, answer)  # type: ignore[arg-type]
    finally:
        done.set()
    return status, headers, bytes(body)
