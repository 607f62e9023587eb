"""A shard: heads, frozen heads and segments behind one immutable view, kept equal to the store's map of the shard.

One writer applies operations under a lock and swaps the view; readers take the view and never wait. Maintenance
(sealing, checkpoints, compaction) runs beside both and swaps the view too. Nothing here is the truth: a shard that is
lost or damaged is rebuilt by replaying the store's feed from seq 0.
"""

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.types import FieldType, Puts
from bebr.errors import DamagedSegment
from bebr.index import sealing
from bebr.index import shard_files as checkpoint
from bebr.index.columns import unpack_mask
from bebr.index.growing import Head, HeadView
from bebr.index.scan import Part
from bebr.index.segment import Segment, SegmentView

FANOUT = 4
"""So many segments of similar size become one."""
MAX_SEGMENT_ROWS = 2**24
MAX_DEAD_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class ShardView:
    """What a reader sees: the parts, and the seq up to which operations are applied."""

    parts: tuple[Part, ...]
    seq: int

    def points(self) -> dict[int, int]:
        """Living points by code version number."""
        counts: dict[int, int] = {}
        for part in self.parts:
            counts[part.version] = counts.get(part.version, 0) + part.live_count
        return {version: count for version, count in counts.items() if count}


class Shard:
    """The writer's side of a shard, and its files in `folder`."""

    def __init__(
        self, folder: Path, specs: Mapping[int, CodeSpec], fields: Mapping[str, FieldType], head_rows: int
    ) -> None:
        self.folder = folder
        self.specs = specs
        self.fields = dict(fields)
        self.head_rows = head_rows
        self.seq = 0
        self.checkpoint_seq = 0
        self.rebuilt_because: str | None = None
        self._segments: list[SegmentView] = []
        self._frozen: list[HeadView] = []
        self._heads: dict[int, HeadView] = {}
        self._operations_since_checkpoint = 0
        self._is_replaced = False
        self._lock = threading.Lock()
        self._maintenance = threading.Lock()
        self.view = ShardView((), 0)

    def open(self) -> None:
        """Map the segments of the last checkpoint. A damaged one makes the shard start empty, to be rebuilt."""
        checkpoint.settle(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.seq, self._segments = checkpoint.load(self.folder)
            self.checkpoint_seq = self.seq
            for view in self._segments:
                self._check_fits(view.segment)
        except DamagedSegment as damage:
            self.rebuilt_because = damage.detail
            self.clear()
        self._publish()

    def clear(self) -> None:
        """Start with an empty folder and no points, to be filled from seq 0."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.seq, self.checkpoint_seq, self._segments = 0, 0, []

    def take_place_of(self, old: "Shard") -> None:
        """Move the files to where those of another shard are, which takes no part any more.

        Waits for maintenance of both that runs; readers of either view go on.
        """
        with old._maintenance, self._maintenance:
            old._is_replaced = True
            checkpoint.replace_folder(self.folder, old.folder)
            self.folder = old.folder

    @property
    def backlog(self) -> int:
        """Full heads that wait to be sealed."""
        return len(self._frozen)

    @property
    def needs_maintenance(self) -> bool:
        return bool(self._frozen) or self._operations_since_checkpoint > 4 * self.head_rows

    def apply(self, puts: Sequence[tuple[Puts, Mapping[str, Sequence[Any]]]], deletes: Sequence[str], seq: int) -> None:
        """Apply operations of distinct ids, whose last has `seq`, as one change of the view.

        puts: with the values of each filterable field. Operations that were applied before change nothing.
        """
        with self._lock:
            if seq <= self.seq:
                return
            self._kill(deletes)
            for batch, values in puts:
                self._kill(batch.ids)
                self._append(batch, values)
            self._operations_since_checkpoint += len(deletes) + sum(len(batch.ids) for batch, _ in puts)
            self.seq = seq
            self._publish()

    def maintain(self) -> None:
        """Seal what is full, write a checkpoint, compact while it pays. Safe to call from any thread, any time."""
        with self._maintenance:
            if self._is_replaced:
                return
            if self._operations_since_checkpoint > 4 * self.head_rows:
                with self._lock:
                    self._freeze_all()
                    self._publish()
            sealed = False
            while self._frozen:
                self._seal_oldest()
                sealed = True
            while group := self._group_to_compact():
                self._compact(group)
                sealed = True
            if sealed or self._operations_since_checkpoint > 4 * self.head_rows:
                self._checkpoint()

    def flush(self) -> None:
        """Seal all heads and write a checkpoint, so that the next start replays nothing."""
        with self._lock:
            self._freeze_all()
            self._operations_since_checkpoint += 4 * self.head_rows + 1
            self._publish()
        self.maintain()

    def _publish(self) -> None:
        self.view = ShardView((*self._segments, *self._frozen, *self._heads.values()), self.seq)

    def _kill(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        for i, segment in enumerate(self._segments):
            rows = segment.segment.find(ids)
            rows = rows[rows >= 0]
            if len(rows):
                self._segments[i] = segment.without(rows)
        for i, frozen in enumerate(self._frozen):
            if len(rows := frozen.head.forget(ids)):
                self._frozen[i] = frozen.without(rows)
        for version, view in self._heads.items():
            if len(rows := view.head.forget(ids)):
                self._heads[version] = view.without(rows)

    def _append(self, puts: Puts, values: Mapping[str, Sequence[Any]]) -> None:
        start = 0
        while start < len(puts.ids):
            view = self._heads.get(puts.version) or self._new_head(puts.version)
            end = min(len(puts.ids), start + view.head.room)
            part = {key: column[start:end] for key, column in values.items()}
            view.head.append(puts.ids[start:end], puts.records[start:end], part)
            self._heads[puts.version] = view.extended()
            if not view.head.room:
                self._freeze_all()
            start = end

    def _new_head(self, version: int) -> HeadView:
        head = Head(version, self.specs[version], self.fields, self.head_rows, after_seq=self.seq)
        return HeadView(head, 0, np.empty(0, np.uint16), 0)

    def _freeze_all(self) -> None:
        """All heads together, so that a checkpoint covers every version up to one seq."""
        self._frozen += [view for view in self._heads.values() if view.rows]
        self._heads = {}

    def _seal_oldest(self) -> None:
        before = self._frozen[0]
        path = self._next_path()
        if not before.live_count:
            self._replace([before], None)
            return
        moves = sealing.seal(before, path)
        self._replace([before], Segment(path), [moves])

    def _group_to_compact(self) -> list[SegmentView]:
        """Segments of one version worth merging: FANOUT of a similar size, or one with many dead rows."""
        tiers: dict[tuple[int, int], list[SegmentView]] = {}
        for view in self._segments:
            if view.rows - view.live_count > MAX_DEAD_SHARE * view.rows:
                return [view]
            tier = 0
            while view.live_count > self.head_rows * FANOUT**tier:
                tier += 1
            tiers.setdefault((view.version, tier), []).append(view)
        for group in tiers.values():
            if len(group) >= FANOUT and sum(view.live_count for view in group[:FANOUT]) <= MAX_SEGMENT_ROWS:
                return group[:FANOUT]
        return []

    def _compact(self, group: list[SegmentView]) -> None:
        living = [view for view in group if view.live_count]
        if not living:
            self._replace(group, None)
            return
        path = self._next_path()
        moves = sealing.compact(living, path)
        dead = [view for view in group if not view.live_count]
        if dead:
            self._replace(dead, None)
        self._replace(living, Segment(path), moves)

    def _replace(
        self,
        before: Sequence[Part],
        segment: Segment | None,
        moves: Sequence[NDArray[np.int64]] = (),
    ) -> None:
        """Swap parts for the segment made of them, carrying over the rows that died meanwhile."""
        with self._lock:
            if segment is not None:
                view = SegmentView.of(segment)
                for old, moved in zip(before, moves, strict=True):
                    died = np.flatnonzero(_alive(old) & ~_alive(self._current(old)))
                    if len(died):
                        view = view.without(moved[died])
                self._segments.append(view)
            gone = {_identity(old) for old in before}
            self._segments = [view for view in self._segments if _identity(view) not in gone]
            self._frozen = [view for view in self._frozen if _identity(view) not in gone]
            self._publish()

    def _current(self, old: Part) -> Part:
        parts: list[Part] = [*self._segments, *self._frozen]
        return next(part for part in parts if _identity(part) == _identity(old))

    def _checkpoint(self) -> None:
        with self._lock:
            unsealed = [view.head.after_seq for view in (*self._frozen, *self._heads.values())]
            seq, segments = min([self.seq, *unsealed]), list(self._segments)
            covered = self._operations_since_checkpoint
        checkpoint.save(self.folder, seq, segments)
        with self._lock:
            self._operations_since_checkpoint -= covered
        self.checkpoint_seq = seq

    def _next_path(self) -> Path:
        numbers = [int(path.stem) for path in self.folder.glob("*.seg")]
        return self.folder / f"{max(numbers, default=0) + 1:08d}.seg"

    def _check_fits(self, segment: Segment) -> None:
        if self.specs.get(segment.version) != segment.spec or segment.fields != self.fields:
            raise DamagedSegment(
                f"segment {segment.path.name} was written for other code versions or fields", segment=segment.path.name
            )


def _identity(part: Part) -> int:
    return id(part.segment) if isinstance(part, SegmentView) else id(part.head)


def _alive(part: Part) -> NDArray[np.bool_]:
    return unpack_mask(part.live, part.rows)
