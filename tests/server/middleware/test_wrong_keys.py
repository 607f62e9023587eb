"""Wrong keys: slowed for whoever guesses, never for those whose keys were right, and logged without the key."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest
from tests.server.service import assert_problem, serving

from bebr.server.middleware import wrong_keys

KEYS = {"api_keys": ("full-key", "other-key")}


async def test_guesses_are_slowed_and_keys_that_were_right_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wrong_keys, "DELAY_SECONDS", 0.05)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def watched(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds)

    async with serving(tmp_path, **KEYS) as client:

        async def ask(key: str) -> httpx.Response:
            return await client.get("/v1/collections", headers={"api-key": key})

        assert (await ask("full-key")).status_code == 200
        with caplog.at_level(logging.WARNING):
            for number in range(wrong_keys.FREE_GUESSES):
                assert_problem(await ask(f"guess-{number}"), 401, "Unauthorized")
        monkeypatch.setattr("bebr.server.middleware.wrong_keys.asyncio.sleep", watched)
        assert (await ask("full-key")).status_code == 200 and not slept
        assert (await ask("other-key")).status_code == 200 and len(slept) == 1
        assert (await ask("other-key")).status_code == 200 and len(slept) == 1
        answers = await asyncio.gather(*(ask(f"more-{number}") for number in range(50)))
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(401) == wrong_keys.MAX_DELAYED and statuses.count(429) == 50 - wrong_keys.MAX_DELAYED
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
        assert (await client.get("/livez", headers={"api-key": "wrong"})).status_code == 200
    lines = [record for record in caplog.records if record.getMessage() == "key refused"]
    assert len(lines) == wrong_keys.FREE_GUESSES
    assert len({record.fields["key"] for record in lines}) == wrong_keys.FREE_GUESSES  # type: ignore[attr-defined]
    assert not any("guess-" in str(record.fields) for record in lines)  # type: ignore[attr-defined]


async def test_whoever_has_no_key_is_not_a_guesser(tmp_path: Path) -> None:
    async with serving(tmp_path, **KEYS) as client:
        for _ in range(wrong_keys.FREE_GUESSES * 2):
            assert (await client.get("/v1/collections")).status_code == 401
        assert (await client.get("/v1/collections", headers={"api-key": "full-key"})).status_code == 200
