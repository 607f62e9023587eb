"""One line per request. While few come, each has its line; under load a sample, with the number of those left out.

Failures and refusals have a larger budget of their own. Probes and scrapes that succeed have no line.
"""

import logging
from typing import Any

from starlette.types import Scope

from bebr.errors import BebrError, NotReady
from bebr.server.problems import ERROR
from bebr.telemetry import Budget, event

log = logging.getLogger("bebr.requests")

KEY = "bebr.key"
"""Entry of a scope: the fingerprint of the caller's key."""
FAILURES_PER_S = 100
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
FIRST_FAILURE, FIRST_FAULT = 400, 500


class AccessLog:
    """Where requests are logged: those that the app answered, and those that were refused before."""

    def __init__(self, per_second: int) -> None:
        """per_second: lines of requests that succeeded."""
        self._answers = Budget(per_second)
        self._failures = Budget(FAILURES_PER_S)

    def write(self, scope: Scope, status: int, seconds: float, size_bytes: int, request_id: str) -> None:
        failed = status >= FIRST_FAILURE
        budget = self._failures if failed else self._answers
        if (scope["path"] in QUIET_PATHS and status < FIRST_FAULT) or not budget.take():
            return
        event(
            log,
            "request",
            _level(status, scope.get(ERROR)),
            method=scope["method"],
            route=getattr(scope.get("route"), "path_format", "unknown"),
            collection=scope.get("path_params", {}).get("collection"),
            status=status,
            ms=round(seconds * 1000, 2),
            bytes=size_bytes,
            request=request_id,
            key=scope.get(KEY),
            error=scope.get(ERROR),
            client=_address(scope) if failed else None,
            skipped=budget.skipped(),
        )

    def refused(self, error: BebrError, client: str, request_id: str, count: int) -> None:
        """Requests or a connection that did not reach the app. request_id: of one of them."""
        if self._failures.take(count):
            event(
                log,
                "request refused",
                logging.WARNING,
                error=type(error).__name__,
                detail=error.detail,
                client=client,
                request=request_id,
                skipped=self._failures.skipped(),
            )


def _level(status: int, error: str | None) -> int:
    """What callers do wrong, and a start that is not over, are no trouble of the service."""
    if status == FIRST_FAULT:
        return logging.ERROR
    return logging.WARNING if status > FIRST_FAULT and error != NotReady.__name__ else logging.INFO


def _address(scope: Scope) -> Any:
    client = scope.get("client")
    return client[0] if client else None
