"""Losses: whether the store still has what it acknowledged to a shard, by the note beside the shard's files."""

import logging
from pathlib import Path
from typing import Any

from bebr.core.history import History, Loss, Mark
from bebr.errors import DamagedStore
from bebr.index.shard import Shard
from bebr.shards.note import NOTHING, Note, note_path, read_note, write_note
from bebr.telemetry import event

log = logging.getLogger(__name__)


class Losses:
    """Those of one shard. names: the collection and the number of the shard, for log lines."""

    def __init__(self, folder: Path, number: int, names: dict[str, Any]) -> None:
        """folder: of the collection."""
        self._path = note_path(folder, number)
        self._note = NOTHING
        self._names = names
        self._reported = ""
        self.count = 0
        """How often the store was found to have lost what it had acknowledged."""

    def read_note(self) -> None:
        self._note = read_note(self._path)

    def take_note(self, mark: Mark, closed: bool) -> None:
        """The store has acknowledged everything up to `mark`."""
        self._note = Note(mark, closed)
        write_note(self._path, self._note)

    def find(self, history: History, mark: Mark) -> Loss | None:
        """What is lost of what was acknowledged, or of what a shard up to `mark` has."""
        # also where only the note is lost: masks of a checkpoint may know of deletes that came after its seq
        return history.lost(self._note.mark) or history.lost(mark)

    def report(self, history: History, shard: Shard) -> None:
        """Raises DamagedStore where the store cannot have lost it but by damage: it died while it was written to."""
        loss = self.find(history, shard.mark)
        self.log(loss)
        if loss and loss.in_epoch and history.lossless and not self._note.closed and shard.history is None:
            raise DamagedStore(
                f"{loss.reason} in shard {self._names['shard']}: a part of its file or of its -wal file is missing. "
                f"Restore the store from a backup; or, to go on with what is left, stop the service, delete "
                f"{shard.folder.parent}, which is then made anew from the store, and start again"
            )

    def log(self, loss: Loss | None) -> None:
        if loss is not None and loss.reason != self._reported:  # not again where it is tried again
            self._reported = loss.reason
            self.count += 1
            event(log, "the store lost acknowledged writes", logging.ERROR, **self._names, why=loss.reason)

    def caught_up(self) -> None:
        """The view is equal to the store: what is lost from now on is another loss."""
        self._reported = ""
