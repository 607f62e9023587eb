"""Bodies: content types, limits, gzip; never more in memory than the limit."""

import gzip
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive
from tests.server.service import DOCS, assert_problem, create, serving

from bebr.config import Limits
from bebr.errors import BebrError, Malformed, PayloadTooLarge
from bebr.server.bodies.body import JSON, NDJSON, BodyBudget, read_body
from bebr.server.problems import UnsupportedMedia

LIMIT = 1 << 20


def receiving(*chunks: bytes) -> Receive:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)} for i, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


def scope_of(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"headers": headers, "app": SimpleNamespace(state=SimpleNamespace(bodies=BodyBudget(Limits())))}


async def read(*chunks: bytes, types: Sequence[str] = (JSON,), **headers: str) -> bytes:
    headers = {"content_type": JSON} | headers
    given = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return await read_body(scope_of(given), receiving(*chunks), LIMIT, types)


async def test_a_body_is_read_in_one_piece_or_in_chunks() -> None:
    assert await read(b'{"a":1}') == b'{"a":1}'
    assert await read(b'{"a"', b"", b":1}") == b'{"a":1}'


@pytest.mark.parametrize("given", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_content_type_that_a_web_form_could_send_is_refused(given: str) -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        await read(b"{}", content_type=given)
    assert caught.value.fields["expected"] == [JSON]


async def test_parameters_of_a_content_type_do_not_matter() -> None:
    for charset in ("charset=utf-8", 'charset="UTF-8"', "profile=x;charset=us-ascii"):
        assert await read(b"{}", content_type=f"Application/JSON; {charset}") == b"{}"
    for charset in ("charset=iso-8859-1", ' Charset = "UTF-16"'):
        with pytest.raises(UnsupportedMedia, match="charset"):
            await read(b"{}", content_type=f"application/json;{charset}")
    assert await read(b"{}", types=(JSON, NDJSON), content_type=NDJSON) == b"{}"


@pytest.mark.parametrize("chunks", [(b"x" * (LIMIT + 1),), (b"x" * LIMIT, b"x")])
async def test_a_body_over_the_limit_is_refused(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(PayloadTooLarge):
        await read(*chunks)


async def test_an_announced_size_is_refused_before_anything_is_read() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        await read_body(
            {"headers": [(b"content-type", b"application/json"), (b"content-length", b"104857600")]},
            never_called,
            LIMIT,
        )
    assert caught.value.fields["max_body_bytes"] == LIMIT


async def never_called() -> Message:
    raise AssertionError("the body was read")


async def test_gzip_is_unzipped_whatever_the_chunks() -> None:
    text = b"abc" * 1000
    zipped = gzip.compress(text[:1500]) + gzip.compress(text[1500:])
    for size in (1, 7, 64, len(zipped)):
        chunks = [zipped[i : i + size] for i in range(0, len(zipped), size)]
        assert await read(*chunks, content_encoding="gzip") == text


async def test_a_gzip_bomb_never_unfolds() -> None:
    bomb = gzip.compress(bytes(200 * LIMIT))
    tracemalloc.start()
    with pytest.raises(PayloadTooLarge):
        await read(bomb, content_encoding="gzip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LIMIT


async def test_a_body_that_unzips_to_exactly_the_limit_is_read() -> None:
    assert len(await read(gzip.compress(bytes(LIMIT)), content_encoding="gzip")) == LIMIT


@pytest.mark.parametrize(
    "body", [gzip.compress(b"abc" * 100, mtime=0)[:-9], b"not gzip", gzip.compress(b"a", mtime=0) + b"tail"]
)
async def test_broken_gzip_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        await read(body, content_encoding="gzip")


async def test_another_encoding_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="content-encoding"):
        await read(b"{}", content_encoding="br")


async def test_a_caller_that_hangs_up_ends_the_request() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(ClientDisconnect):
        await read_body(scope_of([(b"content-type", b"application/json")]), receive, LIMIT)


def test_the_errors_of_this_module_are_ours() -> None:
    assert issubclass(UnsupportedMedia, BebrError)


async def test_zipped_bodies_are_read(tmp_path: Path) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with serving(tmp_path) as client:
        await create(client)
        body = gzip.compress(b'{"filter": null}')
        assert (await client.post(f"{DOCS}/points/count", content=body, headers=headers)).json() == {"count": 0}
        answer = await client.post(f"{DOCS}/points/count", content=gzip.compress(bytes(10**8)), headers=headers)
        assert_problem(answer, 413, "PayloadTooLarge")
