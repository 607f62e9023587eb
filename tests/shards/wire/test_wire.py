"""Calls over real connections: answers, failures, deadlines, cancellation, limits, versions, TLS, and what is no call.

A method is compared with what the handler of this process returned for the same value.
"""

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.waiting import PATIENCE_SECONDS, until

from bebr.errors import CollectionNotFound, DimensionMismatch, LeafUnavailable
from bebr.shards.wire.client import WireClient
from bebr.shards.wire.frames import MAX_FRAME_BYTES, WireError, pack, unpack
from bebr.shards.wire.server import WireServer

LONG = PATIENCE_SECONDS


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for that of a socket, which has 107 bytes in all."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


class Methods:
    """Handlers that say what happened to them."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = self.ended = 0

    def handlers(self) -> dict[str, Callable[[Any, float], Awaitable[Any]]]:
        return {"echo": self.echo, "wait": self.wait, "fail": self.fail, "break": self.break_}

    async def echo(self, value: Any, deadline: float) -> Any:
        return value

    async def wait(self, value: Any, deadline: float) -> Any:
        self.begun += 1
        try:
            await self.go_on.wait()
        finally:
            self.ended += 1
        return value

    async def fail(self, value: Any, deadline: float) -> Any:
        raise CollectionNotFound("there is no 'a'", collection="a", shards={3})

    async def break_(self, value: Any, deadline: float) -> Any:
        raise ZeroDivisionError


@asynccontextmanager
async def wired(address: str, server_options: Any = None, **options: Any) -> AsyncIterator[tuple[Any, ...]]:
    methods = Methods()
    server = WireServer(methods.handlers(), name="leaf-1", **(server_options or {}))
    await server.start(address)
    client = WireClient(server.address, **options)
    try:
        yield client, server, methods
    finally:
        await client.close()
        await server.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_many_calls_share_a_connection(kind: str, short_path: Path) -> None:
    address = "127.0.0.1:0" if kind == "tcp" else f"unix:{short_path / 'leaf'}"
    values = [
        None,
        True,
        -(2**63),
        2**64 - 1,
        2**200,
        -(2**99),
        1.5,
        float("inf"),
        "é\ud800",
        b"\0" * 300_000,
        [[], {}],
    ]
    async with wired(address, name="leaf-1") as (client, server, _):
        assert await asyncio.gather(*(client.call("echo", value, LONG) for value in values)) == values
        assert len(server.streams) == 1 and server.answered == len(values)


async def test_a_failure_is_the_error_that_the_leaf_raised() -> None:
    async with wired("127.0.0.1:0") as (client, _, _):
        with pytest.raises(CollectionNotFound, match="there is no 'a'") as caught:
            await client.call("fail", 1, LONG)
        assert caught.value.fields == {"collection": "a", "shards": [3]}
        for method in ("break", "nothing"):
            with pytest.raises(LeafUnavailable) as other:
                await client.call(method, 1, LONG)
            assert other.value.fields["reason"] == "failed"
        assert await client.call("echo", 1, LONG) == 1


async def test_a_call_that_nobody_waits_for_is_stopped() -> None:
    async with wired("127.0.0.1:0") as (client, _, methods):
        waiting = asyncio.create_task(client.call("wait", 1, LONG))
        await until(lambda: methods.begun == 1, "the call begins")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: methods.ended == 1, "the call ends")
        with pytest.raises(LeafUnavailable) as caught:
            await client.call("wait", 1, 0.05)
        assert caught.value.fields["reason"] == "silent"
        await until(lambda: methods.ended == methods.begun, "the late call ends")
        assert await client.call("echo", 2, LONG) == 2 and client.in_flight == 0


async def test_more_calls_than_the_limit_are_refused_at_once() -> None:
    async with wired("127.0.0.1:0", {"max_calls": 2}) as (client, _, methods):
        waiting = [asyncio.create_task(client.call("wait", n, LONG)) for n in range(2)]
        await until(lambda: methods.begun == 2, "both begin")
        with pytest.raises(LeafUnavailable) as caught:
            await client.call("echo", 1, LONG)
        assert caught.value.fields["reason"] == "busy"
        methods.go_on.set()
        assert await asyncio.gather(*waiting) == [0, 1]
        assert await client.call("echo", 3, LONG) == 3


async def test_a_closed_connection_fails_its_calls_and_a_new_one_is_made(short_path: Path) -> None:
    async with wired(f"unix:{short_path / 'leaf'}") as (client, server, methods):  # no other process takes this address
        waiting = asyncio.create_task(client.call("wait", 1, LONG))
        await until(lambda: methods.begun == 1, "the call begins")
        address = server.address
        await server.close()
        with pytest.raises(LeafUnavailable) as caught:
            await waiting
        assert caught.value.fields["reason"] == "gone"
        again = WireServer(methods.handlers(), name="leaf-1")
        await again.start(address)

        async def answers() -> bool:
            try:
                return bool(await client.call("echo", True, LONG))
            except LeafUnavailable:
                return False

        try:
            assert await until(answers, "another connection")
        finally:
            await again.close()


async def test_both_sides_agree_on_a_version_or_say_why_not() -> None:
    async with wired("127.0.0.1:0", {"versions": (1, 2)}, versions=(2, 3)) as (client, _, _):
        assert await client.call("echo", 1, LONG) == 1
    async with wired("127.0.0.1:0", versions=(2, 3)) as (client, _, _):
        with pytest.raises(LeafUnavailable, match=r"versions 2 to 3 .* 1 to 1 are spoken"):
            await client.call("echo", 1, LONG)
    async with wired("127.0.0.1:0", name="another") as (client, _, _):
        with pytest.raises(LeafUnavailable, match="'leaf-1' answers there, and not 'another'"):
            await client.call("echo", 1, LONG)


async def test_what_is_no_message_ends_the_connection_and_no_other() -> None:
    rng = random.Random(1)
    hello = pack(["bebr", 1, 1])
    ill = [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 2**31),
        struct.pack(">I", 5000) + b"x",
        pack([0, 1, "echo", 1000, 1]),
        hello + struct.pack(">I", MAX_FRAME_BYTES + 1),
        hello + pack([0, "1", "echo", 1000, 1]),
        hello + pack([7, 1]),
        hello + pack([]),
        hello + struct.pack(">I", 5) + b"\xdd\xff\xff\xff\xff",
        hello + struct.pack(">I", 600) + b"\x91" * 600,
        *(hello + struct.pack(">I", 40) + rng.randbytes(40) for _ in range(50)),
    ]
    async with wired("127.0.0.1:0") as (client, server, _):
        host, _, port = server.address.rpartition(":")
        for data in ill:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            async with asyncio.timeout(LONG):
                with suppress(ConnectionError):
                    await reader.read()  # to its end
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert await client.call("echo", 1, LONG) == 1


def test_what_is_unpacked_is_a_value_or_an_error() -> None:
    rng = random.Random(2)
    whole = pack([0, 5, "search", 100, [{"a": [1, 2.5, b"xyz", "text", None, 2**90]}]])[4:]
    read = 0
    for _ in range(3000):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            assert isinstance(unpack(bytes(body[: rng.randrange(1, len(body) + 1)])), list)
            read += 1
        except WireError:
            pass
    assert 0 < read < 3000
    assert unpack(whole) == [0, 5, "search", 100, [{"a": [1, 2.5, b"xyz", "text", None, 2**90]}]]


async def test_an_error_of_a_request_stays_one() -> None:
    async def fail(value: Any, deadline: float) -> Any:
        raise DimensionMismatch("expected 8 dims", expected=8)

    server = WireServer({"fail": fail}, name="leaf")
    await server.start("127.0.0.1:0")
    client = WireClient(server.address)
    try:
        with pytest.raises(DimensionMismatch, match="expected 8 dims"):
            await client.call("fail", None, LONG)
    finally:
        await client.close()
        await server.close()
