"""Errors as RFC 9457 problem documents: the one table from error class to HTTP status, and the handlers that use it.

Nothing outside `bebr.server` knows a status code. `middleware.envelope` handles unexpected exceptions.
"""

import errno
import logging
import re
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bebr import errors
from bebr.errors import BebrError, InvalidRequest, Unavailable
from bebr.server.openai import is_for_openai, openai_error
from bebr.server.validation import invalid_parameters

log = logging.getLogger(__name__)
ERROR = "bebr.error"
"""Entry of a scope: the class of the error that the request was answered with."""
ANONYMOUS = "bebr.anonymous"
"""Entry of a scope: the caller of an open path has no key, though there are keys, and must not learn names."""
PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this method."""


class UnsupportedMedia(InvalidRequest):
    """The route does not read this content type or encoding."""


class InvalidHttp(InvalidRequest):
    """What came is not an HTTP request that this service reads."""


class HeadTooLarge(InvalidRequest):
    """The headers, trailers or chunk extensions are over the limit."""


class RequestTimeout(InvalidRequest):
    """The request did not arrive in time."""


class TooManyConnections(Unavailable):
    """The service holds as many connections as it may."""


STATUS: dict[type[BebrError], int] = {
    BebrError: 500,
    InvalidRequest: 400,
    errors.Malformed: 422,
    errors.PayloadTooLarge: 413,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    MethodNotAllowed: 405,
    UnsupportedMedia: 415,
    RequestTimeout: 408,
    HeadTooLarge: 431,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.Overloaded: 429,
    errors.DeadlineExceeded: 504,
    errors.Abandoned: 499,
    errors.InsufficientStorage: 507,
    errors.Damaged: 500,
}


def status_of(error: type[BebrError]) -> int:
    """The status of the class, or of its nearest base in the table."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)


def problem(error: BebrError, headers: dict[str, str] | None = None, path: str = "") -> Response:
    """The response that describes `error`, in the shape that callers of the path expect."""
    status = status_of(type(error))
    extra = dict(headers or {})
    if isinstance(error, errors.Unavailable):
        extra["retry-after"] = str(error.fields.get("retry_after_seconds", RETRY_AFTER_SECONDS))
    if isinstance(error, errors.Unauthorized):
        extra["www-authenticate"] = "Bearer"
    if is_for_openai(path):
        body = to_json(openai_error(error, status), inf_nan_mode="strings", fallback=repr)
        return Response(body, status, extra, media_type="application/json")
    return Response(problem_json(error), status, extra, media_type=PROBLEM_TYPE)


async def answer_problem(error: BebrError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with `error`, which the log and the metrics name."""
    scope[ERROR] = type(error).__name__
    await problem(error, path=scope["path"])(scope, receive, send)


def problem_json(error: BebrError) -> bytes:
    """The problem document as UTF-8 JSON. `type` points into the page at /docs, where every error is explained."""
    name = type(error).__name__
    document = {
        "type": f"/docs#{name}",
        "title": title_of(type(error)),
        "status": status_of(type(error)),
        "detail": error.detail,
        "error": name,
        "fields": error.fields,
    }
    return to_json(document, inf_nan_mode="strings", fallback=repr)


def title_of(error: type[BebrError]) -> str:
    """DimensionMismatch -> 'Dimension mismatch'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", error.__name__).capitalize()


def install_handlers(app: FastAPI) -> None:
    """Answer expected errors, and those of the framework, with a problem document."""
    app.add_exception_handler(BebrError, _on_bebr_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(OSError, _on_os_error)


def _methods_of(request: Request) -> list[str]:
    """All methods of the path, by the document: of the template with the fewest parameters that fits it."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    for template in sorted(paths, key=lambda template: template.count("{")):
        pattern = re.sub(r"{(\w+)}", lambda found: ".+" if found[1] in ("id", "model") else "[^/]+", template)
        if re.fullmatch(pattern, request.url.path, re.DOTALL):
            methods = [method.upper() for method in paths[template]]
            return methods + (["HEAD"] if "GET" in methods else [])
    return []


async def _on_bebr_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BebrError)
    return _problem(request, error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _problem(request, invalid_parameters(error.errors()))


async def _on_os_error(request: Request, error: Exception) -> Response:
    """What the operating system refuses on the way of any request: a full disk, too many open files, a broken disk."""
    assert isinstance(error, OSError)
    return _problem(request, os_problem(error, request.scope))


def os_problem(error: OSError, scope: Scope) -> BebrError:
    """What the operating system refused on the way of a request, as callers are told. The log has it whole."""
    log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
    reason = error.strerror or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return errors.InsufficientStorage(f"the disk is full: {reason}; free some space")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return errors.Unavailable(f"the service has too many open files: {reason}; raise its limit (ulimit -n)")
    return errors.Unavailable(f"the machine of the service failed: {reason}; its log has more")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path: Any = request.scope["path"].removesuffix("\0")
    headers = dict(error.headers or {})
    if error.status_code == 404:
        return _problem(
            request, errors.NotFound(f"no route {path!r:.200}; /docs lists every route", path=path), headers
        )
    if error.status_code == 405:
        allowed = ", ".join(_methods_of(request)) or headers.get("Allow", "")
        detail = f"{path!r:.200} does not take {request.method}; it takes {allowed}"
        error_405 = MethodNotAllowed(detail, method=request.method, path=path, allowed=allowed)
        return _problem(request, error_405, {"allow": allowed})
    return _problem(request, InvalidRequest(str(error.detail)), headers)


def _problem(request: Request, error: BebrError, headers: dict[str, str] | None = None) -> Response:
    request.scope[ERROR] = type(error).__name__
    return problem(error, headers, request.scope["path"])
