"""Files of every kind are damaged, while the service is stopped, was killed, or runs: nothing is silently wrong.

`python -m bench.damage` does the same for as long as it is told, with a real process.
"""

import asyncio
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.damaging import (
    FINER,
    KINDS,
    Model,
    Verdict,
    check,
    check_searches,
    damage,
    damage_any,
    files,
    fill,
    rescore_section,
)
from tests.server.service import running, serving, settings

from bebr.bootstrap import build_app
from bebr.errors import BebrError

TRIALS = 6
RARE = {"head_rows": 32, "scrub_bytes_per_s": 0}
MAPPED_TRIALS = 2
"""Of segment files that are mapped."""


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A folder with what a polite stop leaves ('stopped') and what a kill leaves ('killed'); and what is in both."""
    folder = tmp_path_factory.mktemp("left")

    async def make() -> Model:
        app = build_app(settings(folder / "stopped", **RARE))
        async with running(app) as client:
            model = await fill(client, random.Random(0))
            for name in model.points:
                await app.state.services.engine.registry.get(name).catch_up()  # nothing is being written any more
            shutil.copytree(folder / "stopped", folder / "killed")
        return model

    return folder, asyncio.run(make())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["stopped", "killed", "running"])
async def test_damage(
    tmp_path: Path, left: tuple[Path, Model], state: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await try_damage(tmp_path, left, state, kind, caplog, files, TRIALS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", ["stopped", "running"])
async def test_damage_of_mapped_segments(
    tmp_path: Path, left: tuple[Path, Model], state: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def segments(folder: Path) -> list[Path]:
        return [path for path in files(folder) if path.suffix == ".seg"]

    await try_damage(tmp_path, left, state, kind, caplog, segments, MAPPED_TRIALS, map_from_bytes=0)


async def try_damage(
    tmp_path: Path,
    left: tuple[Path, Model],
    state: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
    files: Callable[[Path], list[Path]],
    trials: int,
    **changes: int,
) -> None:
    folder, model = left
    rng = random.Random(f"{state} {kind}")
    source = folder / ("stopped" if state == "running" else state)
    for trial in range(trials):
        here = tmp_path / str(trial)
        shutil.copytree(source, here)
        done = ""
        caplog.clear()
        try:
            if state != "running":
                done = damage_any(files(here / "data"), kind, rng)
            async with serving(here, **RARE, **changes) as client:
                if state == "running":
                    done = damage_any(files(here / "data"), kind, rng)
                judge(await check(client, model), f"{state}: {done}", caplog)
        except BebrError as error:  # it does not start, and says why
            assert "catalog.db" in error.detail, (done, error)
        shutil.rmtree(here)


@pytest.mark.parametrize("state", ["stopped", "running"])
@pytest.mark.parametrize("kind", KINDS)
async def test_damaged_rescore_codes_while_points_are_searched(
    tmp_path: Path, left: tuple[Path, Model], kind: str, state: str
) -> None:
    """Every answer is right, or refused until the shard is made anew, which happens by itself."""
    folder, model = left
    shutil.copytree(folder / "stopped", tmp_path / "here")
    rng = random.Random(kind)
    sections = {path: rescore_section(path) for path in (tmp_path / "here").rglob("*.seg")}
    assert any(sections.values())

    def spoil() -> None:
        for path, section in sections.items():
            if section is not None:
                damage(path, kind, rng, section)

    if state == "stopped":
        spoil()
    verdict = Verdict()
    async with serving(tmp_path / "here", **RARE) as client:
        if state == "running":
            await check_searches(client, model, verdict)
            searching = [asyncio.create_task(check_searches(client, model, verdict)) for _ in range(4)]
            await asyncio.sleep(0.01)
            spoil()
            await asyncio.gather(*searching)
        for _ in range(3):
            await check_searches(client, model, verdict)
        described = (await client.get(f"/v1/collections/{FINER}")).json()
        assert described["status"] == "ready"
    assert not verdict.wrong and not verdict.lost, (verdict.wrong[:3], verdict.lost[:3])


def judge(verdict: Verdict, what: str, caplog: pytest.LogCaptureFixture) -> None:
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not verdict.wrong, (what, verdict.wrong[:3])
    assert not verdict.lost or verdict.reported or said, (what, verdict.lost[:3])
