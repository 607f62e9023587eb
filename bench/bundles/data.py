"""Reads the evaluation collections: embeddings of documents and queries, and which documents answer a query.

A data folder holds one folder per collection with `docs.new.i8.npy` (rows, dims) int8 and `docs.new.scale.npy` (rows,)
float32 (`db` in place of `docs` for oewn), the same for `queries`, and `corpus.jsonl.gz`, `queries.jsonl`, `qrels.tsv`.
Row i of the embeddings is line i of the text. `new` is all-MiniLM-L6-v2.
"""

import csv
import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEFAULT_FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NAMES = ("oewn", "scifact", "cranfield", "climate-fever")
MODEL = "new"


@dataclass(frozen=True)
class TextCollection:
    """One collection. documents (rows, dims) and queries (queries, dims) are float32 with rows of length one."""

    name: str
    folder: Path

    @cached_property
    def documents(self) -> NDArray[np.float32]:
        return _embeddings(self.folder, "docs" if (self.folder / f"docs.{MODEL}.i8.npy").is_file() else "db")

    @cached_property
    def queries(self) -> NDArray[np.float32]:
        return _embeddings(self.folder, "queries")

    @cached_property
    def judgements(self) -> dict[int, dict[int, float]]:
        """Query row -> document row -> grade. Judged documents without a row count as not relevant."""
        with gzip.open(self.folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            ids = [json.loads(line)["id"] for line in lines]
        if (chosen := self.folder / "db_rows.i32.npy").is_file():
            ids = [ids[row] for row in np.load(chosen)]
        documents = {id_: row for row, id_ in enumerate(ids)}
        with (self.folder / "queries.jsonl").open(encoding="utf-8") as lines:
            queries = {json.loads(line)["id"]: row for row, line in enumerate(lines)}
        found: dict[int, dict[int, float]] = {}
        with (self.folder / "qrels.tsv").open(encoding="utf-8", newline="") as lines:
            for entry in csv.DictReader(lines, delimiter="\t"):
                grades = found.setdefault(queries[entry["query-id"]], {})
                if entry["corpus-id"] in documents:
                    grades[documents[entry["corpus-id"]]] = float(entry["score"])
        return found


def collections_in(folder: Path) -> list[TextCollection]:
    """The known collections that lie in `folder`; none when it does not exist."""
    return [TextCollection(name, folder / name) for name in NAMES if (folder / name / "qrels.tsv").is_file()]


def _embeddings(folder: Path, side: str) -> NDArray[np.float32]:
    levels = np.load(folder / f"{side}.{MODEL}.i8.npy").astype(np.float32)
    rows = levels * np.load(folder / f"{side}.{MODEL}.scale.npy")[:, None]
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
