"""Each fault of a stopped store once, after kill -9: what is lost is said. `python -m bench.kills` does more of it."""

from pathlib import Path

from faults.store_faults import FAULTS, Drill


def test_no_acknowledged_write_is_lost_unsaid(tmp_path: Path) -> None:
    outcomes = dict(Drill(tmp_path, seed=3).run(len(FAULTS)))
    assert outcomes["nothing"] == outcomes["cut_segments"] == outcomes["no_segments"] == "whole"
    assert outcomes["older_store"] == "told"
    assert outcomes["no_catalog"] == outcomes["no_log"] == "refused"
