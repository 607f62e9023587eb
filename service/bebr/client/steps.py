"""One request and its retries, without a socket.

A *flow* is a generator that yields a `Request` or a `Pause` and receives the response, so that every operation is
written once for blocking and asynchronous transports.

Retried are 429 and 503 (the service did nothing, or recognizes the repetition), and failures of the connection if the
request was never sent or may safely be sent twice.
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from bebr import errors
from bebr.client.values import to_json
from bebr.errors import BebrError, Unavailable

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 30.0
RETRIED_STATUSES = (429, 503)
CLASS_OF_STATUS: dict[int, type[BebrError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    422: errors.Malformed,
    429: errors.Overloaded,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
    507: errors.InsufficientStorage,
}
NAME_OF_CODE = {"model_not_found": "BundleNotFound"}
"""Codes of OpenAI that are not the name of an error and that their status does not say either."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Callable[[], Iterator[bytes]] | None = None
    """A function is called for each attempt and returns the pieces of a streamed body."""
    repeatable: bool = True
    """Sending it twice has the same effect as sending it once."""
    retried: bool = True
    """Try again when it fails."""
    patient: bool = False
    """Wait for the response as long as the connection lasts."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this long."""

    seconds: float


Flow = Generator[Request | Pause, Any, T]


def json_request(
    method: str, path: str, value: Any = None, repeatable: bool = True, patient: bool = False, **params: Any
) -> Request:
    """A request with a JSON body. Parameters that are None are left out."""
    sent = {name: str(item) for name, item in params.items() if item is not None}
    headers, body = ({}, None) if value is None else ({"content-type": "application/json"}, to_json(value))
    return Request(method, path, sent, headers, body, repeatable, patient=patient)


def with_retries(flow: Flow[T], retries: int) -> Flow[T]:
    """The same flow with up to 1 + `retries` attempts for each request, and with failures raised as BebrError."""
    step = next_step(flow, None)
    while not isinstance(step, Done):
        try:
            result = (yield from _attempts(step, retries)) if isinstance(step, Request) else (yield step)
        except BebrError as error:
            result = error  # the flow may know more of it
        step = next_step(flow, result)
    value: T = step.value
    return value


@dataclass(frozen=True, slots=True)
class Done:
    """The flow has returned this value."""

    value: Any


def next_step(flow: Flow[Any], result: Any) -> Request | Pause | Done:
    """Send a result, or a failure, to the flow and return its next step."""
    try:
        return flow.throw(result) if isinstance(result, httpx.TransportError | BebrError) else flow.send(result)
    except StopIteration as stop:
        return Done(stop.value)


def _attempts(request: Request, retries: int) -> Flow[httpx.Response]:
    last = retries if request.retried else 0
    attempt = 0
    while True:
        try:
            response: httpx.Response = yield request
        except httpx.TransportError as error:
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if attempt == last or not (never_sent or request.repeatable):
                raise Unavailable(_failure(error)) from error
            pause = backoff_seconds(attempt)
        else:
            if response.is_success:
                return response
            if attempt == last or response.status_code not in RETRIED_STATUSES:
                raise error_of(response)
            pause = retry_after_seconds(response) or backoff_seconds(attempt)
        attempt += 1
        yield Pause(min(pause, LONGEST_PAUSE_SECONDS))


def backoff_seconds(attempt: int) -> float:
    """Exponential backoff with random jitter, so that many clients do not retry at the same moment."""
    return FIRST_PAUSE_SECONDS * 2.0**attempt * random.uniform(0.5, 1.0)


def retry_after_seconds(response: httpx.Response) -> float | None:
    """The seconds of a response's `Retry-After`, which may be a date; None without one."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def error_of(response: httpx.Response) -> BebrError:
    """The error of a response: by its `error` name, else by its status."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    if isinstance(problem.get("error"), dict):
        problem = _from_openai(problem["error"])
    found = getattr(errors, str(problem.get("error")), None)
    by_status = CLASS_OF_STATUS.get(
        response.status_code, errors.InvalidRequest if response.status_code < 500 else BebrError
    )
    kind = found if isinstance(found, type) and issubclass(found, BebrError) else by_status
    detail = problem.get("detail") or f"{response.status_code} {response.reason_phrase} from {response.request.url}"
    error = kind(str(detail))
    fields = problem.get("fields")
    error.fields = fields if isinstance(fields, dict) else {}
    return error


def _from_openai(error: dict[str, Any]) -> dict[str, Any]:
    """An error in OpenAI's shape, as /v1/embeddings answers it, as a problem document."""
    name = "".join(word.capitalize() for word in str(error.get("code")).split("_"))
    fields = {} if error.get("param") is None else {"key": error["param"]}
    return {"error": NAME_OF_CODE.get(str(error.get("code")), name), "detail": error.get("message"), "fields": fields}


def _failure(error: httpx.TransportError) -> str:
    url = error.request.url
    where = f"{url.scheme}://{url.netloc.decode()}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"cannot reach {where}; start the service with `bebr serve`, or give its URL"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer from {where} in time ({type(error).__name__})"
    return f"the connection to {where} broke: {error or type(error).__name__}"
