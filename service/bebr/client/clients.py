"""The two transports. `Client` blocks, `AsyncClient` awaits. Both run the flows of `collections`, `points`,
`bulk` and the others, so neither has any logic of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from inspect import Parameter, Signature, signature
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from bebr.client import bulk, collections, fits, frames, points, transfer, versions
from bebr.client.points import BATCH_POINTS, Filter
from bebr.client.results import Point
from bebr.client.steps import Done, Flow, Pause, Request, next_step, with_retries
from bebr.errors import WrongEventLoop

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0


def _blocking(operation: Callable[P, Flow[T]]) -> Callable[Concatenate["Client", P], T]:
    """Turn an operation into a method of Client."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(*args, **kwargs))

    _describe(method, operation)
    return method


def _awaiting(operation: Callable[P, Flow[T]]) -> Callable[Concatenate["AsyncClient", P], Coroutine[Any, Any, T]]:
    """Turn an operation into a method of AsyncClient."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(*args, **kwargs))

    _describe(method, operation)
    return method


def _describe(method: Any, operation: Callable[..., Flow[Any]]) -> None:
    """Give a method the name, docstring and parameters of its operation, so that `help` shows them."""
    method.__name__, method.__doc__, method.__qualname__ = operation.__name__, operation.__doc__, operation.__name__
    declared = signature(operation)
    me = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    result = declared.return_annotation.__args__[2]
    method.__signature__ = Signature([me, *declared.parameters.values()], return_annotation=result)


class Client:
    """A blocking client. Threads may share it.

        with bebr.Client("http://127.0.0.1:8000") as client:
            for hit in client.search("python-docs", "parse a date"):
                print(hit.score, hit.metadata)

    Errors of the service are raised as the classes of `bebr.errors`. Writes carry an Idempotency-Key, so that a retry
    after a broken connection applies nothing twice.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._http = httpx.Client(**_options(url, api_key, timeout_seconds), transport=transport)

    list_collections = _blocking(collections.list_collections)
    create_collection = _blocking(collections.create_collection)
    describe_collection = _blocking(collections.describe_collection)
    fit_collection = _blocking(fits.fit_collection)
    wait_fit = _blocking(fits.wait_fit)
    list_versions = _blocking(versions.list_versions)
    attach_version = _blocking(versions.attach_version)
    evaluate_version = _blocking(versions.evaluate_version)
    promote_version = _blocking(versions.promote_version)
    rollback_version = _blocking(versions.rollback_version)
    retire_version = _blocking(versions.retire_version)
    backfill = _blocking(versions.backfill)
    backfill_vectors = _blocking(versions.backfill_vectors)
    update_collection = _blocking(collections.update_collection)
    delete_collection = _blocking(collections.delete_collection)
    list_aliases = _blocking(collections.list_aliases)
    update_aliases = _blocking(collections.update_aliases)
    list_bundles = _blocking(collections.list_bundles)
    list_members = _blocking(collections.list_members)
    upsert = _blocking(points.upsert)
    upsert_vectors = _blocking(frames.upsert_vectors)
    upsert_records = _blocking(frames.upsert_records)
    get_point = _blocking(points.get_point)
    get = _blocking(points.get)
    delete = _blocking(points.delete)
    set_metadata = _blocking(points.set_metadata)
    count = _blocking(points.count)
    scroll_page = _blocking(points.scroll_page)
    search = _blocking(points.search)
    search_batch = _blocking(points.search_batch)
    embed = _blocking(points.embed)
    check_ready = _blocking(collections.check_ready)
    get_definition = _blocking(transfer.get_definition)
    create_from_definition = _blocking(transfer.create_from_definition)
    export_page = _blocking(transfer.export_page)
    import_points = _blocking(transfer.import_points)
    ingest = _blocking(bulk.ingest)
    list_jobs = _blocking(bulk.list_jobs)
    get_job = _blocking(bulk.get_job)
    wait_job = _blocking(bulk.wait_job)
    job_errors = _blocking(bulk.job_errors)
    pause_job = _blocking(bulk.pause_job)
    resume_job = _blocking(bulk.resume_job)
    cancel_job = _blocking(bulk.cancel_job)

    def scroll(
        self,
        collection: str,
        filter: Filter | None = None,
        *,
        with_metadata: bool | Sequence[str] = True,
        page_points: int = BATCH_POINTS,
    ) -> Iterator[Point]:
        """All points, or those that match, in a stable order. Pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = self.scroll_page(collection, filter, limit=page_points, cursor=cursor, with_metadata=with_metadata)
            yield from page.points
            if (cursor := page.cursor) is None:
                return

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        steps = with_retries(flow, self._retries)
        step = next_step(steps, None)
        while not isinstance(step, Done):
            try:
                result: httpx.Response | httpx.TransportError | None = self._do(step)
            except httpx.TransportError as error:
                result = error
            step = next_step(steps, result)
        value: T = step.value
        return value

    def _do(self, step: Request | Pause) -> httpx.Response | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        content = step.body() if callable(step.body) else step.body
        return self._http.request(
            step.method,
            step.path,
            params=step.params,
            headers=step.headers,
            content=content,
            timeout=_timeout(self._http.timeout, step),
        )


class AsyncClient:
    """The same client for asyncio: every method of `Client`, awaited. It serves one event loop: the first that uses it.

    async with bebr.AsyncClient() as client:
        result = await client.search("python-docs", "parse a date")
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._http = httpx.AsyncClient(**_options(url, api_key, timeout_seconds), transport=transport)
        self._loop: asyncio.AbstractEventLoop | None = None

    list_collections = _awaiting(collections.list_collections)
    create_collection = _awaiting(collections.create_collection)
    describe_collection = _awaiting(collections.describe_collection)
    fit_collection = _awaiting(fits.fit_collection)
    wait_fit = _awaiting(fits.wait_fit)
    list_versions = _awaiting(versions.list_versions)
    attach_version = _awaiting(versions.attach_version)
    evaluate_version = _awaiting(versions.evaluate_version)
    promote_version = _awaiting(versions.promote_version)
    rollback_version = _awaiting(versions.rollback_version)
    retire_version = _awaiting(versions.retire_version)
    backfill = _awaiting(versions.backfill)
    backfill_vectors = _awaiting(versions.backfill_vectors)
    update_collection = _awaiting(collections.update_collection)
    delete_collection = _awaiting(collections.delete_collection)
    list_aliases = _awaiting(collections.list_aliases)
    update_aliases = _awaiting(collections.update_aliases)
    list_bundles = _awaiting(collections.list_bundles)
    list_members = _awaiting(collections.list_members)
    upsert = _awaiting(points.upsert)
    upsert_vectors = _awaiting(frames.upsert_vectors)
    upsert_records = _awaiting(frames.upsert_records)
    get_point = _awaiting(points.get_point)
    get = _awaiting(points.get)
    delete = _awaiting(points.delete)
    set_metadata = _awaiting(points.set_metadata)
    count = _awaiting(points.count)
    scroll_page = _awaiting(points.scroll_page)
    search = _awaiting(points.search)
    search_batch = _awaiting(points.search_batch)
    embed = _awaiting(points.embed)
    check_ready = _awaiting(collections.check_ready)
    get_definition = _awaiting(transfer.get_definition)
    create_from_definition = _awaiting(transfer.create_from_definition)
    export_page = _awaiting(transfer.export_page)
    import_points = _awaiting(transfer.import_points)
    ingest = _awaiting(bulk.ingest)
    list_jobs = _awaiting(bulk.list_jobs)
    get_job = _awaiting(bulk.get_job)
    wait_job = _awaiting(bulk.wait_job)
    job_errors = _awaiting(bulk.job_errors)
    pause_job = _awaiting(bulk.pause_job)
    resume_job = _awaiting(bulk.resume_job)
    cancel_job = _awaiting(bulk.cancel_job)

    async def scroll(
        self,
        collection: str,
        filter: Filter | None = None,
        *,
        with_metadata: bool | Sequence[str] = True,
        page_points: int = BATCH_POINTS,
    ) -> AsyncIterator[Point]:
        """All points, or those that match, in a stable order. Pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = await self.scroll_page(
                collection, filter, limit=page_points, cursor=cursor, with_metadata=with_metadata
            )
            for point in page.points:
                yield point
            if (cursor := page.cursor) is None:
                return

    async def close(self) -> None:
        self._check_loop()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _check_loop(self) -> None:
        """Raises WrongEventLoop: connections that one loop opened do not work in another."""
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        if self._loop is not running:
            raise WrongEventLoop(
                "this AsyncClient was used in another event loop before (each asyncio.run has its own); make an "
                "AsyncClient per event loop, inside it"
            )

    async def _run(self, flow: Flow[T]) -> T:
        self._check_loop()
        steps = with_retries(flow, self._retries)
        step = next_step(steps, None)
        while not isinstance(step, Done):
            try:
                result: httpx.Response | httpx.TransportError | None = await self._do(step)
            except httpx.TransportError as error:
                result = error
            step = next_step(steps, result)
        value: T = step.value
        return value

    async def _do(self, step: Request | Pause) -> httpx.Response | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        content = _in_threads(step.body()) if callable(step.body) else step.body
        return await self._http.request(
            step.method,
            step.path,
            params=step.params,
            headers=step.headers,
            content=content,
            timeout=_timeout(self._http.timeout, step),
        )


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a blocking iterator without blocking the event loop."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _timeout(usual: httpx.Timeout, step: Request) -> httpx.Timeout:
    if not step.patient:
        return usual
    return httpx.Timeout(connect=usual.connect, read=None, write=usual.write, pool=usual.pool)


def _options(url: str, api_key: str | None, timeout_seconds: float) -> dict[str, Any]:
    return {
        "base_url": url if "://" in url else f"http://{url}",
        "headers": {"authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": httpx.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
        "follow_redirects": False,
    }
