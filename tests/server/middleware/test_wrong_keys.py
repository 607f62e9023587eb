"""Wrong keys: slowed for whoever guesses, never for those whose keys were right, and logged without the key."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest
from tests.server.service import assert_problem, serving
from tests.waiting import until

from bebr.server.middleware import wrong_keys

KEYS = {"api_keys": ("full-key", "other-key")}


async def guess(client: httpx.AsyncClient) -> None:
    for number in range(wrong_keys.FREE_GUESSES):
        assert_problem(await ask(client, f"guess-{number}"), 401, "Unauthorized")


async def ask(client: httpx.AsyncClient, key: str) -> httpx.Response:
    return await client.get("/v1/collections", headers={"api-key": key})


async def test_guesses_are_slowed_and_keys_that_were_right_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong_keys, "DELAY_SECONDS", 3600.0)  # what is slowed has no answer here
    async with serving(tmp_path, **KEYS) as client:
        assert (await ask(client, "full-key")).status_code == 200
        await guess(client)
        slowed = [asyncio.create_task(ask(client, "other-key"))]
        slowed += [asyncio.create_task(ask(client, f"more-{number}")) for number in range(49)]
        await until(lambda: sum(task.done() for task in slowed) == 50 - wrong_keys.MAX_DELAYED, "refusals")
        assert not slowed[0].done()
        for task in filter(asyncio.Task.done, slowed):
            assert task.result().status_code == 429 and "retry-after" in task.result().headers
        assert (await ask(client, "full-key")).status_code == 200
        assert (await client.get("/livez", headers={"api-key": "wrong"})).status_code == 200
        assert sum(task.done() for task in slowed) == 50 - wrong_keys.MAX_DELAYED, "the others still wait"
        for task in slowed:
            task.cancel()
        await asyncio.gather(*slowed, return_exceptions=True)


async def test_what_was_slowed_is_answered_and_a_right_key_is_known_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wrong_keys, "DELAY_SECONDS", 0.05)
    async with serving(tmp_path, **KEYS) as client:
        with caplog.at_level(logging.WARNING):
            await guess(client)
        more = [ask(client, f"more-{number}") for number in range(wrong_keys.MAX_DELAYED)]
        assert {answer.status_code for answer in await asyncio.gather(*more)} == {401}
        assert (await ask(client, "other-key")).status_code == 200
        monkeypatch.setattr(wrong_keys, "DELAY_SECONDS", 3600.0)
        assert (await ask(client, "other-key")).status_code == 200
    lines = [record for record in caplog.records if record.getMessage() == "key refused"]
    assert len(lines) == wrong_keys.FREE_GUESSES
    assert len({record.fields["key"] for record in lines}) == wrong_keys.FREE_GUESSES  # type: ignore[attr-defined]
    assert not any("guess-" in str(record.fields) for record in lines)  # type: ignore[attr-defined]


async def test_whoever_has_no_key_is_not_a_guesser(tmp_path: Path) -> None:
    async with serving(tmp_path, **KEYS) as client:
        for _ in range(wrong_keys.FREE_GUESSES * 2):
            assert (await client.get("/v1/collections")).status_code == 401
        assert (await client.get("/v1/collections", headers={"api-key": "full-key"})).status_code == 200
