"""Kills and faults of the store with work under way: what is lost is said. `python -m bench.kills` does more of it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from faults.drill import Drill
from faults.store_faults import REDIS, SQLITE


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: the path of Redis's socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="bebr-kills-") as path:
        yield Path(path)


def test_nothing_is_lost_unsaid_with_sqlite(folder: Path) -> None:
    faults = [fault for fault in SQLITE if fault.name in ("no_catalog", "cut_segments")]
    assert dict(Drill(folder, 3, faults).run(len(faults))) == {"no_catalog": "refused", "cut_segments": "whole"}


def test_nothing_is_lost_unsaid_with_redis(folder: Path) -> None:
    faults = [fault for fault in REDIS if fault.name in ("failover", "flush", "kill_redis")]
    assert dict(Drill(folder, 3, faults, redis=True).run(len(faults))) == {
        "failover": "told",
        "flush": "refused",
        "kill_redis": "whole",
    }
