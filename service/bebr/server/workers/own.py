"""What a worker that is not the primary answers itself: reads of the shards, which its own views hold, of documents
that it follows (aliases, code versions), and texts.

All else is the primary's, so that a new route is right by default. Descriptions of collections are: they say how far
lists, fits and fields are, what was checked of searches, and what was found damaged since the start, which the primary
alone knows, and progress is to be the same from every worker. Jobs and members are known to the primary alone.
"""

from collections.abc import Callable

from starlette.types import Scope

from bebr.server.openai import EMBEDDINGS_PATH

COLLECTIONS = "/v1/collections/"
POSTS = frozenset({"search", "search/batch", "points/get", "points/scroll", "points/count"})
"""By what follows the collection in the path."""
OTHERS = frozenset({("POST", EMBEDDINGS_PATH), ("GET", "/livez"), ("GET", "/v1/aliases")})
VERSIONS = "versions"
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
    is_get = method == "GET" and (rest == VERSIONS or rest.startswith(ONE_POINT))
    is_read = rest in POSTS if method == "POST" else is_get
    return is_read and is_known(name)
