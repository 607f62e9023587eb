"""Refusals that are written to the connection as they are, before or instead of a request's way through the app."""

from http import HTTPStatus

from bebr import __version__
from bebr.errors import BebrError
from bebr.server.problems import problem


def alive(request_id: bytes) -> bytes:
    """The whole answer of the probe that asks whether the process lives."""
    body = b'{"status":"alive"}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %s\r\n"
    return head % (len(body), request_id) + b"bebr-version: " + __version__.encode() + b"\r\n\r\n" + body


def wire(error: BebrError, request_id: bytes, close: bool = False, path: str = "") -> bytes:
    """The whole answer to a refused request, as it goes over the connection. `close`: nothing comes after it."""
    response = problem(error, path=path)
    status = response.status_code
    headers = [*response.raw_headers, (b"x-request-id", request_id), (b"bebr-version", __version__.encode())]
    if close:
        headers.append((b"connection", b"close"))
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
