"""API keys: who may call, and what a read-only key may do. Installed only when keys are configured."""

import hashlib
import hmac
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.errors import Forbidden, Unauthorized
from bebr.server.problems import problem

OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json", "/docs", "/"})
"""Probes and documentation hold no data."""
METRICS_PATH = "/metrics"


class ApiKeys:
    """Refuse requests without a known key (401), and writes with a read-only key (403)."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Sequence[str],
        read_only_keys: Sequence[str],
        is_read: Callable[[Scope], bool],
        open_metrics: bool = False,
    ) -> None:
        self._app = app
        self._digests = [(_digest(key.encode()), True) for key in keys]
        self._digests += [(_digest(key.encode()), False) for key in read_only_keys]
        self._is_read = is_read
        self._open_paths = OPEN_PATHS | {METRICS_PATH} if open_metrics else OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            refusal = self._refusal(scope)
            if refusal is not None:
                await problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Unauthorized | Forbidden | None:
        given = _given_key(scope)
        if given is None:
            return Unauthorized("an API key is required: send 'Authorization: Bearer <key>' or 'api-key: <key>'")
        digest, known, may_write = _digest(given), False, False
        for other, writes in self._digests:  # all are compared, and in constant time, so that timing tells nothing
            same = hmac.compare_digest(digest, other)
            known, may_write = known | same, may_write | (same & writes)
        if not known:
            return Unauthorized("unknown API key")
        if not may_write and not self._is_read(scope):
            return Forbidden("this API key is read-only", method=scope["method"], path=scope["path"])
        return None


def _given_key(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
