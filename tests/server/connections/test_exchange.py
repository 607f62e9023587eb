"""Whatever an app answers, the caller reads the same bytes as from uvicorn's own cycle; whole answers in one write."""

import asyncio
import logging
import random
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bebr.server.connections.exchange import Exchange

LOG = logging.getLogger("test")


class Transport:
    """Notes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True


class Flow:
    write_paused = False


async def answer(kind: type[RequestResponseCycle], messages: list[Any], method: str, keep_alive: bool) -> Any:
    transport, ended = Transport(), []
    cycle = kind(
        {"type": "http", "method": method, "http_version": "1.1"},  # type: ignore[arg-type, typeddict-item]
        transport,  # type: ignore[arg-type]
        Flow(),  # type: ignore[arg-type]
        LOG, LOG, False, [(b"date", b"now")], asyncio.Event(), False, keep_alive, lambda: ended.append(True),
    )  # fmt: skip
    for message in messages:
        await cycle.send(message)
    return transport, (cycle.response_complete, len(ended), transport.closed)


def random_messages(chance: random.Random) -> list[Any]:
    body = bytes(chance.randrange(256) for _ in range(chance.choice([0, 1, 50])))
    headers = [(b"content-type", b"application/json"), (b"x-a", "ü".encode("latin-1"))][: chance.randrange(3)]
    if chance.random() < 0.7:
        headers.append((b"content-length", str(len(body)).encode()))
    if chance.random() < 0.2:
        headers.append((b"connection", b"close"))
    status = 200 if body or chance.random() < 0.5 else 204
    bodies = [{"type": "http.response.body", "body": body}]
    if chance.random() < 0.3:
        half = len(body) // 2
        bodies = [
            {"type": "http.response.body", "body": body[:half], "more_body": True},
            {"type": "http.response.body", "body": body[half:]},
        ]
    return [{"type": "http.response.start", "status": status, "headers": headers}, *bodies]


@pytest.mark.parametrize("seed", range(40))
async def test_the_same_bytes(seed: int) -> None:
    chance = random.Random(seed)
    messages, method, keep_alive = random_messages(chance), chance.choice(["GET", "HEAD"]), chance.random() < 0.7
    ours, state = await answer(Exchange, messages, method, keep_alive)
    theirs, expected = await answer(RequestResponseCycle, messages, method, keep_alive)
    assert b"".join(ours.writes) == b"".join(theirs.writes) and state == expected


async def test_a_whole_answer_is_one_write() -> None:
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    transport, state = await answer(Exchange, [start, {"type": "http.response.body", "body": b"ok"}], "POST", True)
    assert transport.writes == [b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\nok"]
    assert state == (True, 1, False)


async def test_an_answer_with_a_line_end_in_a_header_is_left_to_uvicorn() -> None:
    headers = [(b"content-length", b"2"), (b"x-a", b"b\r\nx-c: d")]
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    with pytest.raises(RuntimeError, match="header value"):
        await answer(Exchange, [start, {"type": "http.response.body", "body": b"ok"}], "POST", True)
