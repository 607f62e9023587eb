"""What follows a fit: other points come, the binarizer is measured again, and another fit is proposed or made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.encoding.quantization.embeddings import text_like
from tests.engine.fitting import DIMS, fit_of, make, nearest, reached, write
from tests.engine.running import running
from tests.waiting import until

from bebr.config import OnFitDrift
from bebr.engine import Engine, FitSettings
from bebr.engine.collections.schema import FitSource
from bebr.engine.statuses import FitStatus
from bebr.errors import Conflict, InvalidOption

FIRST = text_like(1_600, dims=DIMS)
OTHER = np.ascontiguousarray(text_like(1_600, seed=9, dims=DIMS)[:, ::-1])
ROWS = np.concatenate([FIRST[:800], OTHER[800:]])
"""Points of one kind, then of another."""
SMALL = FitSettings(bytes=8, sample=300, dims=DIMS)
QUIET = {"head_rows": 8192}


async def fitted(engine: Engine) -> FitStatus:
    """A collection with a fit to points of the first kind."""
    await make(engine, SMALL)
    await write(engine, range(800), ROWS)
    return await reached(engine, "done")


async def measured_again(engine: Engine, before: FitStatus) -> FitStatus:
    async def measured() -> FitStatus | None:
        fit = await fit_of(engine)
        return fit if fit.points != before.points else None

    found = await until(measured, "another measurement")
    assert found is not None
    return found


async def grow(engine: Engine, numbers: range, rows: np.ndarray = ROWS) -> None:
    for start in range(numbers.start, numbers.stop, 50):
        await write(engine, range(start, min(start + 50, numbers.stop)), rows)


async def test_a_fit_is_proposed_when_points_change_and_made_from_the_sample_on_request(tmp_path: Path) -> None:
    async with running(tmp_path, **QUIET) as engine:
        first = await fitted(engine)
        assert (first.drift, first.refit_proposed, first.searched, first.points) == (0.0, False, 740, 800)
    async with running(tmp_path, **QUIET) as engine:  # the sample is in the store
        await grow(engine, range(800, 1_600))
        second = await measured_again(engine, first)
        assert second.state == "done" and second.version == first.version

        async def proposed() -> FitStatus | None:
            fit = await fit_of(engine)
            return fit if fit.refit_proposed else None

        second = await until(proposed, "a fit is proposed")
        assert second.drift is not None and second.drift > 0.1
        assert (second.searched is not None and second.searched <= 360 and second.queries == 60) or second.queries
        status = await engine.fits.request("docs", source=FitSource.SAMPLE)
        assert status.state == "fitting" and (await engine.describe_collection("docs")).active_version == first.version
        third = await reached(engine, "done")
        assert third.version == str(first.version).replace("@1", "@2")
        assert third.drift == 0.0 and third.recall_at_10 is not None and third.recall_at_10 > second.recall_at_10
        described = await engine.describe_collection("docs")
        assert described.points == {first.version: 1_600} and described.active_version == third.version
        await write(engine, range(100), ROWS)
        assert (await engine.describe_collection("docs")).points == {first.version: 1_500, third.version: 100}
        assert await nearest(engine, ROWS[3], 1) == ["p003"] and await nearest(engine, ROWS[1_200], 1) == ["p1200"]
        await engine.versions.promote("docs", str(first.version), gate())  # it is undone as any version is
    async with running(tmp_path, **QUIET) as engine:
        assert (await engine.describe_collection("docs")).active_version == first.version
        assert (await fit_of(engine)).state == "done"


def gate() -> Any:
    from bebr.engine.versions.gate import Gate

    return Gate(0.0)


async def test_it_is_made_at_once_where_the_setting_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, on_fit_drift=OnFitDrift.REFIT, **QUIET) as engine:
        first = await fitted(engine)
        await grow(engine, range(800, 1_600))

        async def is_replaced() -> bool:
            return (await engine.describe_collection("docs")).active_version != first.version

        await until(is_replaced, "another fit")
        second = await reached(engine, "done")
        assert second.version != first.version and second.refit_proposed is False


async def test_nothing_is_said_where_the_setting_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, on_fit_drift=OnFitDrift.IGNORE, **QUIET) as engine:
        first = await fitted(engine)
        await grow(engine, range(800, 1_600))
        second = await measured_again(engine, first)
        assert second.refit_proposed is False and second.drift is not None


async def test_the_same_kind_of_points_is_no_drift_and_the_old_binarizer_is_kept(tmp_path: Path) -> None:
    """A fit to the sample of the same kind may find less than the one that there is: then that stays."""
    async with running(tmp_path, **QUIET) as engine:
        first = await fitted(engine)
        await grow(engine, range(800, 1_600), FIRST)
        second = await measured_again(engine, first)
        assert second.drift is not None and second.drift < 0.1  # measured early, among fewer points, it finds more
        assert second.refit_proposed is False
        await engine.fits.request("docs", source=FitSource.SAMPLE)
        third = await reached(engine, "done")
        active = (await engine.describe_collection("docs")).active_version
        assert third.version == active and len(list((tmp_path / "bundles").iterdir())) in (1, 2)


async def test_what_cannot_be_requested(tmp_path: Path) -> None:
    async with running(tmp_path, max_fit_reservoir_bytes=0, **QUIET) as engine:
        await make(engine, SMALL)
        with pytest.raises(Conflict, match="no embeddings are kept"):
            await engine.fits.request("docs", source=FitSource.SAMPLE)
        with pytest.raises(InvalidOption, match="'now' does not apply"):
            await write(engine, range(200), ROWS)
            await engine.fits.request("docs", source=FitSource.SAMPLE, now=True)
        await write(engine, range(400), ROWS)
        await reached(engine, "done")
        with pytest.raises(Conflict, match="no embeddings are kept"):
            await engine.fits.request("docs", source=FitSource.SAMPLE)
        assert await engine._store.list_documents("reservoir") == {}


async def test_a_deleted_collection_leaves_no_sample(tmp_path: Path) -> None:
    async with running(tmp_path, **QUIET) as engine:
        await fitted(engine)
        await engine.delete_collection("docs")
        assert await engine._store.list_documents("reservoir") == {}
        assert await engine._store.list_documents("reservoir-page") == {}
