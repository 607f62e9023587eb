"""A few thousand odd requests over all routes; `bench/fuzz.py` sends hundreds of thousands."""

from pathlib import Path
from typing import Any

import pytest
from tests.faults.fuzzing import KEYS, fuzz, served
from tests.faults.odd_files import fuzz_files
from tests.server.bundles import write_tiny_bundle


@pytest.mark.parametrize(("seed", "settings"), [(1, {}), (2, KEYS)], ids=["without keys", "with keys"])
async def test_no_request_gets_an_error_of_ours(tmp_path: Path, seed: int, settings: dict[str, Any]) -> None:
    write_tiny_bundle(tmp_path / "bundles", tmp_path / "scratch")
    keys = [*settings.get("api_keys", ()), *settings.get("read_only_api_keys", ())]
    async with served(tmp_path, **settings) as app:
        report = await fuzz(app, seed, 1500, keys=keys)
    assert report.faults == {}
    assert report.sent == 1500 and len(report.by_route) > 30
    assert report.statuses[200] > 150, "hardly any request was valid"


def test_no_file_gets_an_error_of_ours(tmp_path: Path) -> None:
    report = fuzz_files(tmp_path, 1, 280)
    assert report.faults == {}
    assert all(report.refused[name] for name in ("bundle", "checkpoint", "npy", "fvecs", "csv"))
