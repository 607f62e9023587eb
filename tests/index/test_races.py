"""What readers, the writer and maintenance do to each other when they meet at the worst moment."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.core.codes import CodeSpec, join_records
from bebr.core.filters import parse_filter
from bebr.core.types import FieldType, Puts
from bebr.index import growing, sealing
from bebr.index.growing import CHUNK_ROWS
from bebr.index.shard import Shard
from bebr.index.shard_files import rebuilt_folder

SPEC = CodeSpec.parse("16x1")
FIELDS = {"n": FieldType.INTEGER}
EVEN = parse_filter({"must": [{"key": "n", "match": {"value": 0}}]}, FIELDS)


def open_shard(folder: Path, head_rows: int) -> Shard:
    shard = Shard(folder, {0: SPEC}, FIELDS, head_rows)
    shard.open()
    return shard


def put(shard: Shard, start: int, stop: int) -> None:
    codes = np.zeros((stop - start, SPEC.code_size_bytes), np.uint8)
    records = join_records(codes, np.ones(stop - start, np.float16))
    ids = [f"p{number:06d}" for number in range(start, stop)]
    shard.apply([(Puts(ids, 0, records, []), {"n": [number % 2 for number in range(start, stop)]})], [], stop)


def count(mask: np.ndarray) -> int:
    return int(np.bitwise_count(mask).sum())


def test_a_view_taken_before_its_chunk_was_full_can_still_be_filtered(tmp_path: Path) -> None:
    shard = open_shard(tmp_path, 4 * CHUNK_ROWS)
    put(shard, 0, 1000)
    (before,) = shard.view.parts
    put(shard, 1000, 2 * CHUNK_ROWS + 100)
    (after,) = shard.view.parts
    assert count(after.mask(EVEN)) == CHUNK_ROWS + 50
    assert count(before.mask(EVEN)) == 500


def test_readers_that_build_the_same_chunk_at_once_keep_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = open_shard(tmp_path, 4 * CHUNK_ROWS)
    put(shard, 0, 3 * CHUNK_ROWS)
    (part,) = shard.view.parts
    original, together = growing.build_column, threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def build_together(kind: FieldType, values: list[Any]) -> Any:
        together.wait()
        return original(kind, values)

    monkeypatch.setattr(growing, "build_column", build_together)
    threads = [threading.Thread(target=part.segment.chunk, args=(0, part.rows)) for _ in range(2)]  # type: ignore[union-attr]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert [len(part.segment.chunk(number, part.rows)["n"].present()) for number in range(3)] == [CHUNK_ROWS] * 3  # type: ignore[union-attr]
    last = parse_filter({"must": [{"has_id": [f"p{2 * CHUNK_ROWS:06d}"]}]}, FIELDS)
    assert count(part.mask(EVEN)) == 3 * CHUNK_ROWS // 2 and count(part.mask(last)) == 1


def test_many_readers_with_many_filters_leave_the_kept_masks_in_order(tmp_path: Path) -> None:
    shard = open_shard(tmp_path, 64)
    put(shard, 0, 64)
    shard.flush()
    (part,) = shard.view.parts
    errors: list[BaseException] = []
    end = time.monotonic() + 1.5

    def filter_again_and_again(first: int) -> None:
        number = first
        while time.monotonic() < end and not errors:
            number = (number + 5) % 14
            try:
                ids = [f"p{i:06d}" for i in range(number)]
                assert count(part.mask(parse_filter({"must": [{"has_id": ids}]}, FIELDS))) == number
            except BaseException as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=filter_again_and_again, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_a_rebuilt_shard_waits_for_maintenance_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the checkpoint of what was replaced would come back, without its rows, at the next start."""
    shard = open_shard(tmp_path / "shard", 32)
    put(shard, 0, 100)
    rebuilt = Shard(rebuilt_folder(shard.folder), {0: SPEC}, FIELDS, 32)
    rebuilt.clear()
    put(rebuilt, 0, 40)
    rebuilt.flush()
    sealing_now, go_on = threading.Event(), threading.Event()
    original = sealing.write_segment

    def write_slowly(*args: Any, **kwargs: Any) -> None:
        sealing_now.set()
        go_on.wait(PATIENCE_SECONDS)
        original(*args, **kwargs)

    monkeypatch.setattr(sealing, "write_segment", write_slowly)
    errors: list[BaseException] = []

    def maintain() -> None:
        try:
            shard.maintain()
        except BaseException as error:
            errors.append(error)

    maintenance = threading.Thread(target=maintain)
    maintenance.start()
    assert sealing_now.wait(PATIENCE_SECONDS)
    swap = threading.Thread(target=rebuilt.take_place_of, args=(shard,))
    swap.start()
    swap.join(0.2)
    assert swap.is_alive() and shard.folder.exists() and rebuilt.folder != shard.folder
    go_on.set()
    maintenance.join()
    swap.join()
    shard.flush()  # it takes no part any more
    assert errors == []
    assert shard.view.points == {0: 100} and rebuilt.view.points == {0: 40}
    assert [path.name for path in tmp_path.iterdir()] == ["shard"]
    again = open_shard(tmp_path / "shard", 32)
    assert (again.seq, again.view.points, again.rebuilt_because) == (40, {0: 40}, None)
    put(rebuilt, 40, 50)
    rebuilt.flush()
    assert open_shard(tmp_path / "shard", 32).view.points == {0: 50}


def test_a_checkpoint_that_failed_is_written_by_the_next_maintenance(tmp_path: Path) -> None:
    shard = open_shard(tmp_path / "shard", 32)
    for start in range(0, 160, 8):
        put(shard, start, start + 8)
    blocked = tmp_path / "shard" / "shard.tmp"
    blocked.mkdir()
    with pytest.raises(OSError):
        shard.flush()
    blocked.rmdir()
    assert shard.needs_maintenance
    shard.maintain()
    assert shard.checkpoint_seq == 160
