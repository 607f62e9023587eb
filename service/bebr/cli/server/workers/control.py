"""What the supervisor and a worker say to each other, over a pair of sockets: first how to start, then a word a line.

When one of the two dies, the other reads the end.
"""

import json
import pickle
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bebr.config import Settings

_SIZE = struct.Struct("!I")


class Order(StrEnum):
    """What the supervisor says."""

    GO = "go"
    """Begin: what is to be replaced has ended."""
    DRAIN = "drain"
    """Take no more connections, and end those that there are: after `linger_seconds` those that rest, after
    `finish_seconds` those with a request under way. Answered."""
    HOLD = "hold"
    """Send the primary nothing until `release`. Answered with `held`: whether what is under way there has ended within
    `seconds`; where it has not and the order `gives_up`, the primary is sent requests as before."""
    RELEASE = "release"
    STOP = "stop"
    """Drain, and end. `ends_service`: so do all others, and nobody replaces a primary that has died."""


class Word(StrEnum):
    """What a worker says."""

    PREPARED = "prepared"
    """It waits for `go`."""
    WAITING = "waiting"
    """It is not ready yet: `reason`."""
    READY = "ready"
    BEAT = "beat"
    """Its event loop runs."""
    HELD = "held"
    DRAINED = "drained"
    FAILED = "failed"
    """It could not start: `error`, the name of a class, and `detail`."""


@dataclass(frozen=True)
class Start:
    """How a worker starts."""

    settings: Settings
    number: int
    """0: it is the primary."""
    folder: Path
    """Where the workers find each other."""
    answers_before_ready: bool
    """Nobody else answers yet."""


def send_start(control: socket.socket, start: Start) -> None:
    content = pickle.dumps(start)
    control.sendall(_SIZE.pack(len(content)) + content)


def read_start(control: socket.socket) -> Start:
    """Raises EOFError where the supervisor has died."""
    start = pickle.loads(_read(control, _SIZE.unpack(_read(control, _SIZE.size))[0]))
    assert isinstance(start, Start)
    return start


def _read(control: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        more = control.recv(size - len(content))
        if not more:
            raise EOFError
        content += more
    return content


def line(word: StrEnum, **fields: Any) -> bytes:
    return json.dumps({"word": word, **fields}).encode() + b"\n"


def fields_of(said: bytes) -> dict[str, Any]:
    """The fields of a line, with its `word`."""
    fields: dict[str, Any] = json.loads(said)
    return fields
