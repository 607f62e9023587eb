"""A shard: growing, frozen and sealed segments behind one immutable view, kept equal to the store's map of the shard.

Its state applies operations and swaps the view; readers take the view and never wait. Here are the files and their
maintenance (sealing, checkpoints, compaction), which runs beside both and swaps it too. Nothing here is the truth:
a shard that is lost or damaged is rebuilt by replaying the store's feed from seq 0.
"""

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bebr.core.codes import CodeSpec
from bebr.core.history import Mark
from bebr.core.lists import Centroids
from bebr.core.types import FieldType, Role
from bebr.errors import DamagedSegment, NotReady
from bebr.index import sealing, shard_files
from bebr.index.candidates import Part
from bebr.index.columns import Column
from bebr.index.compaction import is_mostly_dead, segment_to_sort, segments_to_join, segments_to_merge
from bebr.index.growing import Compaction, GrowingView
from bebr.index.lists.assigning import assign_lists
from bebr.index.segment import ANY_SIZE, Segment, SegmentView
from bebr.index.shard_parts import Moves
from bebr.index.shard_state import ShardState

CHECKPOINT_HEADS = 4
"""A checkpoint is due after the operations that fill this many growing segments; the next start replays no more."""


class Shard(ShardState):
    """The writer's side of a shard, and its files in `folder`."""

    def __init__(
        self,
        folder: Path,
        specs: Mapping[int, CodeSpec],
        fields: Mapping[str, FieldType],
        head_rows: int,
        lists: Mapping[int, Centroids] | None = None,
        map_from_bytes: int = ANY_SIZE,
        role: Role = Role.PRIMARY,
        shares: bool = False,
    ) -> None:
        super().__init__(specs, fields, head_rows)
        self.folder = folder
        self._shares = shares or role is Role.FOLLOWER
        """Other processes have the same files open."""
        self._owns_files = role is Role.PRIMARY
        """Else another process writes them, and none is made or changed here."""
        self._files: tuple[int, ...] | None = None
        self.lists: Mapping[int, Centroids] = {} if lists is None else lists
        """By code version: the centroids by whose lists rows are sorted from now on."""
        self.map_from_bytes = map_from_bytes
        """Codes of segments of this size or more stay in their files, mapped."""
        self.checkpoint_seq = 0
        """The files hold all operations up to this seq."""
        self.rebuilt_because: str | None = None
        """Why the files could not be used at the start."""
        self._is_replaced = False
        self._maintenance = threading.Lock()
        """Held while files change."""

    def open(self, fields_change: bool = False, before: "Shard | None" = None) -> None:
        """Map the segments of the last checkpoint. A damaged one makes the shard start empty, to be rebuilt.

        So does one without the columns of all fields, unless these are still to be made (`fields_change`). before:
        has segments of these files open. Raises NotReady.
        """
        if self._owns_files:
            shard_files.settle(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
        self._files = shard_files.written(self.folder)
        try:
            known = [] if before is None else before._parts.sealed
            self._loaded, self._parts.sealed = shard_files.load(self.folder, self.map_from_bytes, known, self._shares)
            self.seq = self.checkpoint_seq = self._loaded.seq
            if not self._owns_files:
                self._check_known()
            for view in self._parts.sealed:
                shard_files.check_fits(view.segment, self.specs, None if fields_change else self.fields)
        except DamagedSegment as damage:
            self.rebuilt_because = damage.detail
            self.clear()
        self._drop_dead()
        self._publish()

    def clear(self) -> None:
        """Start with no points, to be filled from seq 0, and an empty folder where it is the shard's own."""
        if self._owns_files:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        self.seq, self.checkpoint_seq, self._parts.sealed = 0, 0, []
        self._loaded = Mark("", "", 0)

    def drop(self) -> None:
        """Let go of everything, and remove the files. Waits for maintenance that runs; none comes after it."""
        with self._maintenance:
            self._is_replaced = True
            self.forget()
            shutil.rmtree(self.folder, ignore_errors=True)

    def take_place_of(self, old: "Shard") -> None:
        """Move the files to where those of another shard are, which takes no part any more.

        Waits for maintenance of both that runs; readers of either view go on.
        """
        with old._maintenance, self._maintenance:
            old._is_replaced = True
            shard_files.replace_folder(self.folder, old.folder)
            self.folder = old.folder
            for view in self._parts.sealed:
                view.segment.move_to(self.folder / view.segment.path.name)

    # -- maintenance ---------------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        """Frozen segments that wait to be sealed."""
        return len(self._parts.frozen)

    @property
    def is_outrun(self) -> bool:
        """Whether another process has written a checkpoint since the files were read, or rows that only the feed has
        brought lack columns of today's fields."""
        if self._owns_files:
            return False
        by_feed = [part for part in self.outdated if not isinstance(part, SegmentView)]
        return bool(by_feed) or shard_files.written(self.folder) != self._files

    @property
    def needs_maintenance(self) -> bool:
        if not self._owns_files:
            return False
        if self._parts.frozen or self._is_unsaved or self._is_checkpoint_due:
            return True
        return any(map(is_mostly_dead, self.view.parts))

    @property
    def needs_sorting(self) -> bool:
        """Whether a segment has not the lists that its version has now."""
        return self._owns_files and segment_to_sort(self._parts.sealed, self.lists) is not None

    @property
    def needs_joining(self) -> bool:
        """Whether segments with the lists of today are worth making one while nothing is written."""
        return self._owns_files and bool(segments_to_join(self._parts.sealed, self.lists))

    def maintain(self) -> bool:
        """Seal what is frozen, compact while it pays, write a checkpoint. Safe to call from any thread, any time.

        Returns whether it made segments or wrote a checkpoint, which takes much memory for a moment.
        """
        with self._maintenance:
            if self._is_replaced:
                return False
            with self._lock:
                if self._is_checkpoint_due:
                    self._parts.freeze()
                    self._publish()
                mostly_dead = [view for view in self._parts.growing.values() if is_mostly_dead(view)]
            for view in mostly_dead:
                self._compact_growing(view)
            made = 0
            while self._seal_oldest() or self._merge_some():
                made += 1
            if is_due := self._is_unsaved or self._is_checkpoint_due:
                self._checkpoint()
            return made > 0 or is_due

    def sort_one(self, is_wanted: Callable[[], bool] = lambda: True) -> bool:
        """Sort the rows of one segment by the lists that its version has now; False when there is none to sort.

        The long part, to find each row's list, runs beside sealing and merging. Raises Stopped, see `assign_lists`.
        """
        with self._lock:
            view = segment_to_sort(self._parts.sealed, self.lists)
        if view is None or (centroids := self.lists.get(view.version)) is None:
            return False
        view.segment.check()
        assigned = assign_lists(view.blocked, view.rows, centroids, is_wanted)
        self._make_anew(view, lambda now, path: sealing.compact([now], path, centroids, assigned))
        return True

    def join_some(self) -> bool:
        """Make one segment of several with the lists of today, see `segments_to_join`; False when there are none."""
        with self._maintenance:
            with self._lock:
                group = [] if self._is_replaced else segments_to_join(self._parts.sealed, self.lists)
            if self._merge(group):
                self._checkpoint()
            return bool(group)

    def add_columns(self, view: SegmentView, fields: Mapping[str, FieldType], columns: Mapping[str, Column]) -> bool:
        """Write a segment anew with the columns of these fields: those given, and its own for the others.

        False where it is not there any more. Raises DamagedSegment.
        """
        return self._make_anew(view, lambda now, path: sealing.compact([now], path, fields=fields, made=columns))

    def _make_anew(self, view: SegmentView, write: Callable[[SegmentView, Path], Moves]) -> bool:
        """Write a sealed segment anew and save that; False where it was merged, or all of it died."""
        with self._maintenance:
            with self._lock:
                now = self._parts.sealed_now(view)
            if now is None or self._is_replaced:
                return False
            self._replace([now], lambda path: write(now, path))
            self._checkpoint()
        return True

    def flush(self) -> None:
        """Seal all growing segments and write a checkpoint, so that the next start replays nothing."""
        with self._lock:
            self._parts.freeze()
            self._is_unsaved = True
            self._publish()
        self.maintain()

    @property
    def _is_checkpoint_due(self) -> bool:
        return self._operations > CHECKPOINT_HEADS * self.head_rows

    def _compact_growing(self, before: GrowingView) -> None:
        compaction = Compaction(before)
        with self._lock:
            if self._parts.finish(compaction, before):
                self._publish()

    def _seal_oldest(self) -> bool:
        """Make a sealed segment of the oldest frozen one; False when there is none."""
        with self._lock:
            if not self._parts.frozen:
                return False
            before = self._parts.frozen[0]
        self._replace([before], lambda path: [sealing.seal(before, path, self.lists.get(before.version))])
        return True

    def _merge_some(self) -> bool:
        """Merge segments where that pays; False when it does not."""
        with self._lock:
            group = segments_to_merge(self._parts.sealed, self.head_rows)
        return self._merge(group)

    def _merge(self, group: Sequence[SegmentView]) -> bool:
        if group:
            self._replace(group, lambda path: sealing.compact(group, path, self.lists.get(group[0].version)))
        return bool(group)

    def _replace(self, before: Sequence[Part], write: Callable[[Path], Moves]) -> None:
        """Write a segment of these parts, and swap them for it."""
        path = self._next_path()
        moves = write(path)
        segment = Segment(path, self.map_from_bytes, self._shares)
        with self._lock:
            self._parts.replace(before, segment, moves)
            self._is_unsaved = True
            self._drop_dead()
            self._publish()

    def _checkpoint(self) -> None:
        with self._lock:
            seq, segments = self._parts.sealed_up_to(self.seq), list(self._parts.sealed)
            covered, self._is_unsaved = self._operations, False
        try:
            shard_files.save(self.folder, self.history.mark(seq) if self.history else Mark("", "", seq), segments)
        except BaseException:
            self._is_unsaved = True
            raise
        with self._lock:
            self._operations -= covered
        self.checkpoint_seq = seq

    def _next_path(self) -> Path:
        assert self._owns_files, "another process makes the files of this folder"
        numbers = [int(path.stem) for path in self.folder.glob("*.seg")]
        return self.folder / f"{max(numbers, default=0) + 1:08d}.seg"

    def _check_known(self) -> None:
        if unknown := {view.version for view in self._parts.sealed} - self.specs.keys():
            raise NotReady(f"{self.folder} has points of code versions {sorted(unknown)}, which are not known here yet")
