"""What a shard holds in memory: its parts, and the view of them that readers take.

One writer applies operations under a lock and swaps the view.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from bebr.core.codes import CodeSpec
from bebr.core.history import History, Mark
from bebr.core.types import FieldType, Puts
from bebr.index.candidates import Part
from bebr.index.shard_parts import ShardParts
from bebr.index.view import ShardView


class ShardState:
    """A shard without its files."""

    def __init__(self, specs: Mapping[int, CodeSpec], fields: Mapping[str, FieldType], head_rows: int) -> None:
        self.specs = specs
        self.fields = dict(fields)
        self.head_rows = head_rows
        """Rows of a growing segment when it is full."""
        self.seq = 0
        self.history: History | None = None
        """What the store that the operations come from says of them; it gives checkpoints their marks."""
        self._loaded = Mark("", "", 0)
        """The last operation of the files that were opened."""
        self._parts = ShardParts(specs, head_rows)
        """Only changed while `_lock` is held."""
        self._operations = 0
        """Since the last checkpoint."""
        self._is_unsaved = False
        """Segments were sealed, merged or dropped since the last checkpoint."""
        self._lock = threading.Lock()
        """Held while the view changes."""
        self.view = ShardView.of((), 0)

    @property
    def mark(self) -> Mark:
        """The last operation that the shard has."""
        return self.history.mark(self.seq) if self.history else self._loaded

    def forget(self) -> None:
        """Let go of all segments, so that their memory and their maps are given back; nothing may be asked any more."""
        with self._lock:
            self._parts = ShardParts(self.specs, self.head_rows)
            self._publish()

    def apply(self, puts: Sequence[tuple[Puts, Mapping[str, Sequence[Any]]]], deletes: Sequence[str], seq: int) -> None:
        """Apply operations of distinct ids, whose last has `seq`, as one change of the view.

        puts: with the values of each filterable field. Operations that were applied before change nothing.
        """
        with self._lock:
            if seq <= self.seq:
                return
            self._parts.kill(deletes)
            for batch, values in puts:
                self._parts.kill(batch.ids)
                self._parts.append(batch, values, self.fields, self.seq)
            self._drop_dead()
            self._operations += len(deletes) + sum(len(batch.ids) for batch, _ in puts)
            self.seq = seq
            self._publish()

    def set_fields(self, fields: Mapping[str, FieldType]) -> None:
        """Rows that come from now on have columns of these fields, and no others; those that are there get them by
        `add_columns`, once they are sealed."""
        with self._lock:
            if fields != self.fields:
                self.fields = dict(fields)
                self._parts.freeze()
                self._publish()

    @property
    def outdated(self) -> list[Part]:
        """The parts that have not the columns of today's fields alone."""
        return [part for part in self.view.parts if part.segment.fields != self.fields]

    def leave_out(self, ids: Sequence[str]) -> None:
        """Take points out of the view, whatever the store says; what is written of them later counts again."""
        with self._lock:
            self._parts.kill(ids)
            self._drop_dead()
            self._publish()

    def _publish(self) -> None:
        self.view = ShardView.of(self._parts.all(), self.seq)

    def _drop_dead(self) -> None:
        self._is_unsaved |= self._parts.drop_dead()
