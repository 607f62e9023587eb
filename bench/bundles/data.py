"""The evaluation collections: real texts with judgments, embedded by all-MiniLM-L6-v2 (`new`)."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bebr_training.data.collections import Collection, open_collection

DEFAULT_FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NAMES = ("oewn", "scifact", "cranfield", "climate-fever")
MODEL = "new"
MAX_QUERIES = 2_000
"""As many as the largest of them has."""


@dataclass(frozen=True)
class TextCollection:
    """One collection, read when it is first requested."""

    name: str
    folder: Path

    @cached_property
    def opened(self) -> Collection:
        coded = any(self.folder.glob("*.i8.npy"))
        return open_collection(self.folder, MAX_QUERIES, model=MODEL if coded else None)

    @property
    def documents(self) -> NDArray[np.float32]:
        """(rows, dims) float32, rows of length one."""
        return self.opened.documents

    @property
    def queries(self) -> NDArray[np.float32]:
        """(queries, dims) float32, rows of length one."""
        return self.opened.queries


def collections_in(folder: Path) -> list[TextCollection]:
    """The judged collections that lie in `folder`, NAMES first; none when it does not exist."""
    there = {path.parent.name for path in folder.glob("*/qrels.tsv")}
    names = [*(name for name in NAMES if name in there), *sorted(there - {*NAMES})]
    return [TextCollection(name, folder / name) for name in names]
