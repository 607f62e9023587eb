"""The segments of a shard, and what operations do to their rows: growing ones take new rows, all lose replaced ones.

Nothing here knows files, locks or readers. The shard calls all of it while it holds its lock, and then shows readers
the parts as a new view.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.core.types import FieldType, Puts
from bebr.index import sealing
from bebr.index.candidates import Part
from bebr.index.growing import Compaction, GrowingSegment, GrowingView
from bebr.index.segment import Segment, SegmentView

Moves = Sequence[NDArray[np.int64]]
"""Where the rows of each part went that a segment was made of, as `sealing` returns them."""


class ShardParts:
    """Each segment with its living rows, by how far it has come: growing, then frozen, then sealed."""

    def __init__(self, specs: Mapping[int, CodeSpec], head_rows: int) -> None:
        """head_rows: of a growing segment when it is full."""
        self._specs = specs
        self._head_rows = head_rows
        self.sealed: list[SegmentView] = []
        self.frozen: list[GrowingView] = []
        """Full, or frozen for a checkpoint; the oldest first."""
        self.growing: dict[int, GrowingView] = {}
        """By code version."""

    def all(self) -> tuple[Part, ...]:
        return (*self.sealed, *self.frozen, *self.growing.values())

    def sealed_up_to(self, seq: int) -> int:
        """The seq up to which all operations are in sealed segments. seq: of the last one."""
        return min([seq, *(view.segment.after_seq for view in (*self.frozen, *self.growing.values()))])

    def sealed_now(self, view: SegmentView) -> SegmentView | None:
        """The view of the same segment as it is now; None where it was merged, or all of it died."""
        return next((one for one in self.sealed if one.segment is view.segment), None)

    def kill(self, ids: Sequence[str]) -> None:
        """Points that are not there are none."""
        if not ids:
            return
        for i, sealed in enumerate(self.sealed):
            rows = sealed.segment.find(ids)
            rows = rows[rows >= 0]
            if len(rows):
                self.sealed[i] = sealed.without(rows)
        for i, frozen in enumerate(self.frozen):
            if len(rows := frozen.segment.forget(ids)):
                self.frozen[i] = frozen.without(rows)
        for version, growing in self.growing.items():
            if len(rows := growing.segment.forget(ids)):
                self.growing[version] = growing.without(rows)

    def append(
        self, puts: Puts, values: Mapping[str, Sequence[Any]], fields: Mapping[str, FieldType], after_seq: int
    ) -> None:
        """Put rows into the growing segment of their version, and freeze all that grow where it gets full.

        fields, after_seq: of a growing segment that begins.
        """
        start = 0
        while start < len(puts.ids):
            view = self.growing.get(puts.version) or self._new_growing(puts.version, fields, after_seq)
            end = min(len(puts.ids), start + view.segment.free_rows)
            part = {key: column[start:end] for key, column in values.items()}
            view.segment.append(puts.ids[start:end], puts.records[start:end], part)
            self.growing[puts.version] = view.extended()
            if not view.segment.free_rows:
                self.freeze()
            start = end

    def _new_growing(self, version: int, fields: Mapping[str, FieldType], after_seq: int) -> GrowingView:
        return GrowingView.of(GrowingSegment(version, self._specs[version], fields, self._head_rows, after_seq))

    def freeze(self) -> None:
        """All growing segments together, so that a checkpoint covers every version up to one seq."""
        self.frozen += [view for view in self.growing.values() if view.rows]
        self.growing = {}

    def drop_dead(self) -> bool:
        """Forget the segments without a living row at once: after a conversion they may be most of what is scanned.

        Returns whether there were sealed ones among them.
        """
        if all(part.live_count for part in self.all()):
            return False
        were_sealed = not all(view.live_count for view in self.sealed)
        self.sealed = [view for view in self.sealed if view.live_count]
        self.frozen = [view for view in self.frozen if view.live_count]
        self.growing = {version: view for version, view in self.growing.items() if view.live_count}
        return were_sealed

    def finish(self, compaction: Compaction, before: GrowingView) -> bool:
        """Swap a growing segment for the one made of it; False where it was frozen or dropped meanwhile."""
        now = self.growing.get(before.version)
        if now is None or now.segment is not before.segment:
            return False
        self.growing[before.version] = compaction.finish(now)
        return True

    def replace(self, before: Sequence[Part], segment: Segment, moves: Moves) -> None:
        """Swap parts for the segment made of them, carrying over the rows that died meanwhile."""
        current = {id(part.segment): part for part in self.all()}
        view = sealing.carried_over(segment, before, current, moves)
        gone = {id(old.segment) for old in before}
        self.sealed = [part for part in (*self.sealed, view) if id(part.segment) not in gone]
        self.frozen = [part for part in self.frozen if id(part.segment) not in gone]
