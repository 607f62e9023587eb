"""Faults of a stopped store after kill -9: what is lost is said. `python -m bench.kills` does more of it, at random."""

from pathlib import Path

from faults.store_faults import Drill


def test_no_acknowledged_write_is_lost_unsaid(tmp_path: Path) -> None:
    outcomes = dict(Drill(tmp_path, seed=3).run(4))
    assert outcomes == {
        "older_store": "told",
        "no_log": "refused",
        "no_catalog": "refused",
        "cut_segments": "whole",
    }
