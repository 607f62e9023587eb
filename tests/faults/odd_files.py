"""Damages the files that come from elsewhere, and reads them as the CLI does: only our own errors may come of it."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from tests.encoding.importing.checkpoints import write_checkpoint
from tests.faults.odd_values import ODD, RAWS
from tests.server.bundles import write_tiny_bundle

from bebr.cli.files.columns import Target
from bebr.cli.files.exports import read_header, read_points, writing
from bebr.cli.files.sources import Sources
from bebr.core.types import FieldType
from bebr.encoding import Bundle
from bebr.encoding.embedding.files import read_rows
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.errors import BebrError

FIELDS = {"year": FieldType.INTEGER, "tags": FieldType.KEYWORDS}
CSV = 'id,text,year,tags\na,"Hello, world",2024,"[""x""]"\nb,"two\nlines",,x\n'
LINES = "".join(json.dumps({"id": f"p{n}", "text": "fox", "metadata": {"year": n}}) + "\n" for n in range(20))


@dataclass(frozen=True)
class Reader:
    """A file or folder, and what reads it."""

    whole: Path
    read: Callable[[Path], Any]


@dataclass
class FileReport:
    """What came of it."""

    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)
    """What was raised and is no error of ours, with the damage that did it first."""


def readers(folder: Path) -> dict[str, Reader]:
    """What reads files of other programs, each with a whole file to damage."""
    bundle = write_tiny_bundle(folder / "bundles", folder / "scratch").path
    checkpoint = write_checkpoint(folder / "checkpoint")
    np.save(folder / "rows.npy", np.ones((20, 8), np.float32))
    rows = np.hstack([np.full((20, 1), 8, "<i4").view("<f4"), np.ones((20, 8), "<f4")])
    rows.astype("<f4").tofile(folder / "rows.fvecs")
    (folder / "points.csv").write_text(CSV)
    (folder / "points.ndjson").write_text(LINES)
    (folder / "points.txt").write_text("one\ntwo\n")
    (folder / "points.json").write_text(f"[{','.join(LINES.splitlines())}]")
    columns = {"id": [f"p{n}" for n in range(20)], "emb": [[0.5, 1.0]] * 20, "tags": [["x"]] * 20, "year": [*range(20)]}
    parquet.write_table(arrow.table(columns), folder / "points.parquet")
    for name in ("export.ndjson.gz", "export.parquet"):
        with writing(folder / name, {"name": "a", "collection": {}}) as export:
            export.add([{"id": f"p{n:02}", "version_number": 0, "code_b64": "AAAA", "metadata": {}} for n in range(20)])
    return {
        "bundle": Reader(bundle, _read_bundle),
        "checkpoint": Reader(checkpoint, import_checkpoint),
        "npy": Reader(folder / "rows.npy", read_rows),
        "fvecs": Reader(folder / "rows.fvecs", read_rows),
        "csv": Reader(folder / "points.csv", _read_points),
        "ndjson": Reader(folder / "points.ndjson", _read_points),
        "txt": Reader(folder / "points.txt", _read_points),
        "json": Reader(folder / "points.json", _read_points),
        "parquet": Reader(folder / "points.parquet", _read_points),
        "npy points": Reader(folder / "rows.npy", _read_points),
        "fvecs points": Reader(folder / "rows.fvecs", _read_points),
        "export": Reader(folder / "export.ndjson.gz", _read_export),
        "parquet export": Reader(folder / "export.parquet", _read_export),
    }


def fuzz_files(folder: Path, seed: int, count: int) -> FileReport:
    """Damage and read `count` times, each kind in turn."""
    report, chance = FileReport(), random.Random(seed)
    kinds = readers(folder)
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        whole = kinds[name].whole
        copy = folder / "damaged" / whole.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, copy)
        files = [path for path in sorted(copy.rglob("*")) if path.is_file()] if copy.is_dir() else [copy]
        texts = [path for path in files if path.suffix == ".json"]
        damaged = chance.choice(texts if texts and chance.random() < 0.8 else files)
        how = _damage(damaged, chance)
        try:
            kinds[name].read(copy)
            report.taken[name] += 1
        except BebrError:
            report.refused[name] += 1
        except Exception as error:
            report.faults.setdefault(f"{name}: {type(error).__name__}: {error!s:.150}", f"{damaged.name}: {how}")
    return report


def _read_bundle(folder: Path) -> None:
    Encoder(Bundle.load(folder))


def _read_points(path: Path) -> None:
    body = Sources([str(path)]).body(Target(FIELDS, "text"))
    if not isinstance(body, Path):
        for _ in body:
            pass


def _read_export(path: Path) -> None:
    read_header(path)
    for _ in read_points(path):
        pass


def _damage(path: Path, chance: random.Random) -> str:
    """Damage a file, and say how."""
    content = path.read_bytes()
    if path.suffix == ".json" and chance.random() < 0.8:
        value = json.loads(content)
        keys = _change(value, chance)
        raw = chance.choice(RAWS) if chance.random() < 0.2 else None
        text = json.dumps(value)
        path.write_bytes((text if raw is None else text.replace('"@"', raw, 1)).encode("utf-8", "surrogatepass"))
        return f"changed {keys}"
    place = chance.randrange(len(content))
    ways: dict[str, bytes] = {
        "cut": content[:place],
        "emptied": b"",
        "a byte changed": content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
        "bytes put in": content[:place]
        + chance.choice([b"\xff\xfe", b"\0" * 8, b"\xed\xa0\x80", b"\r"])
        + content[place:],
        "a length of no end": b"\xff" * 8 + content[8:],
        "doubled": content + content,
        "marked": b"\xef\xbb\xbf" + content,
        "noise": random.Random(place).randbytes(200),
    }
    how = chance.choice(list(ways))
    path.write_bytes(ways[how])
    return f"{how} at {place}"


def _change(value: Any, chance: random.Random) -> str:
    """Change one place inside a JSON value; returns where."""
    where = ""
    while True:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return where
        key = chance.choice(keys)
        where += f".{key}"
        if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.7:
            value = value[key]
            continue
        if chance.random() < 0.25:
            del value[key]
        else:
            value[key] = chance.choice([*ODD, "@", "@"])
        return where
