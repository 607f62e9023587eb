"""API keys: who may call, and what a read-only key may do. Installed only when keys are configured."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from bebr.errors import Forbidden, Overloaded, Unauthorized
from bebr.server.middleware.access_log import KEY
from bebr.server.middleware.wrong_keys import WrongKeys, fingerprint
from bebr.server.problems import ANONYMOUS, answer_problem

ASSETS = "/assets/"
"""Where the files of the pages are."""
OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json", "/docs", "/"})
"""Probes, pages and documentation hold no data; neither do the files of the pages."""
METRICS_PATH, READY_PATH = "/metrics", "/readyz"


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
        self._digests = [(digest_of(key.encode()), True) for key in keys]
        self._digests += [(digest_of(key.encode()), False) for key in read_only_keys]
        self._is_read = is_read
        self._wrong = WrongKeys()
        self._open_paths = OPEN_PATHS | {METRICS_PATH} if open_metrics else OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            is_open = scope["path"] in self._open_paths or scope["path"].startswith(ASSETS)
            try:
                if not is_open or scope["path"] == READY_PATH:
                    await self._check(scope)
            except (Unauthorized, Forbidden, Overloaded) as refusal:
                if not is_open:
                    await answer_problem(refusal, scope, receive, send)
                    return
                scope[ANONYMOUS] = True
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raises Unauthorized, Forbidden, or Overloaded for an address that guesses."""
        given = given_key(scope["headers"])
        if given is None:
            raise Unauthorized("an API key is required: send 'Authorization: Bearer <key>' or 'api-key: <key>'")
        digest, known, may_write = digest_of(given), False, False
        address = (scope.get("client") or ("unknown",))[0]
        await self._wrong.delay(address, digest)
        for other, writes in self._digests:  # all are compared, and in constant time, so that timing tells nothing
            same = hmac.compare_digest(digest, other)
            known, may_write = known | same, may_write | (same & writes)
        if not known:
            self._wrong.wrong(address, digest)
            raise Unauthorized("unknown API key")
        self._wrong.right(address, digest)
        scope[KEY] = fingerprint(digest)
        if not may_write and not self._is_read(scope):
            raise Forbidden("this API key is read-only", method=scope["method"], path=scope["path"])


def given_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request came with."""
    for name, value in headers:
        if name == b"api-key":
            return bytes(value)
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
    return None


def digest_of(key: bytes) -> bytes:
    """Keys are compared and kept by this."""
    return hashlib.sha256(key).digest()
