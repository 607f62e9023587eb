"""What the tests of `bebr encode` share: a bundle, files of points, and record files as plain values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.client.running import tiny_text_bundle

from bebr.encoding import Bundle

WORDS = ("harbour", "bread", "winter", "train", "mountain", "code", "file", "name", "cat", "dog", "song", "river")


def text_of(number: int) -> str:
    return " ".join(WORDS[(number * 7 + step * 5) % len(WORDS)] for step in range(1 + number % 9))


def rows_of(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"p{n}", "text": text_of(n), "year": 2000 + n % 30} for n in range(first, first + count)]


def bundle_in(folder: Path) -> Bundle:
    """A bundle that takes texts, at folder/bundles/minilm@1."""
    return tiny_text_bundle(folder / "bundles", folder / "checkpoint")


def write_parquet(path: Path, rows: Sequence[dict[str, Any]], group: int = 1000) -> Path:
    names = list(rows[0]) if rows else ["id", "text", "year"]
    kinds = {"id": pa.string(), "text": pa.string(), "year": pa.int64()}
    table = pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in names})
    pq.write_table(table, path, row_group_size=group)
    return path


def write_ndjson(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """As points."""
    points = [{"id": row["id"], "text": row["text"], "metadata": {"year": row["year"]}} for row in rows]
    path.write_text("".join(json.dumps(point) + "\n" for point in points))
    return path


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("id,text,year\n" + "".join(f"{row['id']},{row['text']},{row['year']}\n" for row in rows))
    return path


Record = tuple[bytes, float, dict[str, Any]]


def records_in(folder: Path) -> dict[str, Record]:
    """(code, gain, metadata) by id, of all parts; an id that comes twice fails."""
    found: dict[str, Record] = {}
    for path in sorted(folder.glob("part-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            assert row["id"] not in found, row
            found[row["id"]] = (row["code"], row["gain"], json.loads(row["metadata"]))
    return found


def rejected_in(folder: Path) -> list[dict[str, Any]]:
    lines = [path.read_text().splitlines() for path in sorted(folder.glob("_rejected-*.ndjson"))]
    return [json.loads(line) for some in lines for line in some]


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
