"""Cursors: text in which a search or a scroll writes down where its next page begins, for the caller to send back."""

import base64
import json
from functools import lru_cache

from bebr.errors import InvalidOption

SEARCH, SCROLL = "search", "after"


@lru_cache(maxsize=256)
def write_search_cursor(offset: int) -> str:
    """offset: how many hits the pages so far had."""
    return _write(SEARCH, offset)


def read_search_cursor(cursor: str) -> int:
    """Raises InvalidOption for what no search answered."""
    offset = _read(cursor, SEARCH, "a search")
    if type(offset) is not int or offset < 0:
        raise _invalid("a search")
    return offset


def write_scroll_cursor(after: str) -> str:
    """after: the id of the last point of the pages so far."""
    return _write(SCROLL, after)


def read_scroll_cursor(cursor: str) -> str:
    """Raises InvalidOption for what no scroll answered."""
    after = _read(cursor, SCROLL, "a scroll")
    if not isinstance(after, str):
        raise _invalid("a scroll")
    return after


def _write(kind: str, position: int | str) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, position]).encode()).decode()


def _read(cursor: str, kind: str, what: str) -> object:
    try:
        found, position = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        genuine = found == kind and _write(kind, position) == cursor
    except (ValueError, TypeError, RecursionError):
        raise _invalid(what) from None
    if not genuine:
        raise _invalid(what)
    result: object = position
    return result


def _invalid(what: str) -> InvalidOption:
    return InvalidOption(f"'cursor' must be the cursor of {what}, sent back as it was received", key="cursor")
