"""The ids of requests: the caller's own where it sent one, else a new one."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator

_VALID_ID = re.compile(rb"[\w.:/+=-]{1,128}")


def given_request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The id that the caller sent, if it is valid."""
    for name, value in headers:
        if name == b"x-request-id" and _VALID_ID.fullmatch(value):
            return bytes(value)
    return None


def request_ids() -> Iterator[bytes]:
    """Ids for requests whose callers sent none: unique over restarts, and in order within a process."""
    prefix = os.urandom(4).hex()
    return (f"{prefix}-{number:x}".encode() for number in itertools.count(1))
