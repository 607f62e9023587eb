"""What a worker that is not the primary answers itself: reads of the shards, which its own views hold, and texts.

All else is the primary's, so that a new route is right by default.
"""

from collections.abc import Callable

from starlette.types import Scope

from bebr.server.openai import EMBEDDINGS_PATH

COLLECTIONS = "/v1/collections/"
POSTS = frozenset({"search", "search/batch", "points/get", "points/scroll", "points/count"})
"""By what follows the collection in the path."""
OTHERS = frozenset({("POST", EMBEDDINGS_PATH), ("GET", "/livez")})
ONE_POINT = "points/"
"""A GET of it, with an id behind it."""


def is_own(is_known: Callable[[str], bool], scope: Scope) -> bool:
    """Whether the worker itself answers the request. is_known: whether it has the collection of a name or alias open;
    whether others exist is for the primary to say."""
    method: str = scope["method"]
    path: str = scope["path"]
    if not path.startswith(COLLECTIONS):
        return (method, path) in OTHERS
    name, _, rest = path[len(COLLECTIONS) :].partition("/")
    is_read = rest in POSTS if method == "POST" else method == "GET" and rest.startswith(ONE_POINT)
    return is_read and is_known(name)
