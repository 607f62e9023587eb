"""Which routes only read: each says so in its `Operation`, and read-only keys may call those and no others."""

from collections.abc import Sequence
from enum import StrEnum

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

ACCESS = "x-access"
"""The key of an operation in the OpenAPI document that says whether it reads or writes."""


class Access(StrEnum):
    """What a route does to the data."""

    READ = "read"
    WRITE = "write"


def is_read(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    """Whether the request only reads. `routes` are those of the app, in the order in which it tries them.

    Where none matches, nothing but an error can come of it; GET may learn which.
    """
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            extra = getattr(route, "openapi_extra", None) or {}
            return extra.get(ACCESS) == Access.READ
    return scope["method"] in ("GET", "HEAD")
