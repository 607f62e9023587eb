"""The files of the pages, and the headers that keep anything else from running in them."""

from functools import cache
from importlib import resources
from pathlib import PurePath

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Name -> content and content type."""
    files = resources.files("bebr.server.pages").joinpath("assets").iterdir()
    return {file.name: (file.read_bytes(), TYPES[PurePath(file.name).suffix]) for file in files}
