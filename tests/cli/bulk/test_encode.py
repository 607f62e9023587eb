"""`bebr encode` on real files with a real model: what it writes, how it is divided, and what it refuses."""

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cli.bulk.encoding import (
    bundle_in,
    files_in,
    records_in,
    rejected_in,
    rows_of,
    text_of,
    write_csv,
    write_ndjson,
    write_parquet,
)
from tests.cli.test_commands import run
from tests.encoding.importing.checkpoints import DIMS
from tests.waiting import PATIENCE_SECONDS, wait_until

from bebr.cli.bulk.plan import shares
from bebr.cli.files.columns import NO_OPTIONS, Target
from bebr.cli.files.reader import BLOCK_ROWS
from bebr.cli.files.record_files import read_made, read_records
from bebr.cli.files.sources import Sources
from bebr.encoding import Bundle, TextKind
from bebr.encoding.encoder import Encoder

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_in(tmp_path_factory.mktemp("bundle"))


def encode(bundle: Bundle, output: Path, *files: Path | str, more: tuple[str, ...] = ()) -> int:
    return run("encode", *map(str, files), "--bundle", str(bundle.path), "--output", str(output), *more)


def expected(bundle: Bundle, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The oracle: what `Encoder` makes of the rows, block by block."""
    encoder = Encoder(bundle)
    found: dict[str, Any] = {}
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        records = encoder.encode(encoder.embed([row["text"] for row in some], TextKind.PASSAGE))
        for row, record in zip(some, records, strict=True):
            gain = float(record[-2:].view("<f2")[0])
            found[row["id"]] = (record[:-2].tobytes(), gain, {"year": row["year"]})
    encoder.close()
    return found


def test_records_are_those_of_the_encoder_in_whatever_parts(bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(700)
    file = write_parquet(tmp_path / "in.parquet", rows, group=300)
    wanted = expected(bundle, rows)
    for parts in (1, 2, 5):
        assert encode(bundle, tmp_path / f"out{parts}", file, more=("--parts", str(parts))) == 0
        assert records_in(tmp_path / f"out{parts}") == wanted
    for part in (3, 0, 4, 1, 2):
        assert encode(bundle, tmp_path / "one", file, more=("--part", f"{part}/5", "--threads", "2")) == 0
    assert files_in(tmp_path / "one") == files_in(tmp_path / "out5")


def test_the_file_says_what_made_it(bundle: Bundle, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(3))
    assert encode(bundle, tmp_path / "out", file) == 0
    [path] = (tmp_path / "out").iterdir()
    assert path.name == "part-00000-of-00001.parquet" and path.stat().st_mode & 0o777 == 0o644
    made = read_made(path)
    assert made is not None and (made.bundle, made.fingerprint) == ("minilm@1", bundle.fingerprint)
    assert (made.code, made.part, made.parts, made.format) == (str(bundle.spec), 0, 1, 1)
    assert made.source["files"][0]["name"] == "in.parquet"
    [batch] = read_records(path, made, 100)
    assert batch.ids == ["p0", "p1", "p2"] and batch.records.shape == (3, bundle.spec.record_size_bytes)


@given(
    st.lists(st.sampled_from([("parquet", 0), ("parquet", 600), ("npy", 300), ("csv", 700), ("txt", 520)]), max_size=5),
    st.integers(1, 9),
)
@settings(max_examples=60)
def test_every_row_is_in_one_part(kinds: list[tuple[str, int]], parts: int) -> None:
    """For any files and any number of parts; whole blocks stay together."""

    class File:
        def __init__(self, kind: str, rows: int) -> None:
            self.rows, self.count = rows, rows if kind in ("parquet", "npy") else None

    files: list[Any] = [File(*kind) for kind in kinds]
    found = [shares(files, part, parts) for part in range(parts)]
    for number, file in enumerate(files):
        owners = [
            [part for part in range(parts) if (share := found[part][number]) is not None and share.has(row)]
            for row in range(file.rows)
        ]
        assert all(len(some) == 1 for some in owners)
        for start in range(0, file.rows, BLOCK_ROWS):
            assert len({some[0] for some in owners[start : start + BLOCK_ROWS]}) == 1


def test_parts_of_all_kinds_of_files_are_the_whole(bundle: Bundle, tmp_path: Path) -> None:
    """The oracle for ids, texts and metadata is what `bebr ingest` reads of the same files."""
    source = tmp_path / "in"
    source.mkdir()
    write_parquet(source / "a.parquet", rows_of(600), group=250)
    write_ndjson(source / "b.ndjson", rows_of(550, 1000))
    write_csv(source / "c.csv", rows_of(530, 2000))
    (source / "d.txt.gz").write_bytes(gzip.compress("".join(f"{text_of(n)}\n\n" for n in range(300)).encode()))
    (source / "e.txt").write_text("".join(f"{text_of(n)}\n" for n in range(40)))
    (source / "_hidden.csv").write_text("id,text\nx,y\n")
    (source / "notes.md").write_text("no data")
    names = sorted(str(path) for path in source.iterdir() if path.name[0] != "_" and path.suffix != ".md")
    read = [json.loads(line) for line in b"".join(Sources(names, NO_OPTIONS).body(Target())).split(b"\n") if line]
    assert encode(bundle, tmp_path / "whole", source, more=("--parts", "1")) == 0
    whole = records_in(tmp_path / "whole")
    assert {point["id"]: point["metadata"] for point in read} == {key: value[2] for key, value in whole.items()}
    assert len(read) == len(whole) == 600 + 550 + 530 + 300 + 40
    for parts in (2, 3, 7):
        for part in range(parts):
            assert encode(bundle, tmp_path / f"{parts}", source, more=("--part", f"{part}/{parts}")) == 0
        assert records_in(tmp_path / f"{parts}") == whole
        assert len(list((tmp_path / f"{parts}").iterdir())) == parts


def test_vectors_are_encoded_with_ids_and_by_columns(bundle: Bundle, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((300, DIMS)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "ids").write_text("\n".join(f"v{n}" for n in range(300)))
    encoder = Encoder(bundle)
    unit = encoder.check_embeddings(rows)
    records = np.concatenate([encoder.encode(unit[:BLOCK_ROWS]), encoder.encode(unit[BLOCK_ROWS:])])
    encoder.close()
    codes = [record[:-2].tobytes() for record in records]
    assert encode(bundle, tmp_path / "out", tmp_path / "rows.npy", more=("--parts", "2")) == 0
    assert {key: value[0] for key, value in records_in(tmp_path / "out").items()} == dict(
        zip(map(str, range(300)), codes, strict=True)
    )
    more = ("--ids", str(tmp_path / "ids"), "--parts", "2")
    assert encode(bundle, tmp_path / "named", tmp_path / "rows.npy", more=more) == 0
    assert {key: value[0] for key, value in records_in(tmp_path / "named").items()} == dict(
        zip((f"v{n}" for n in range(300)), codes, strict=True)
    )


def test_bad_rows_are_named_and_the_rest_lives(bundle: Bundle, tmp_path: Path, capsys: Printed) -> None:
    lines = [
        '{"id": "a", "text": "bread"}',
        '{"id": 7, "text": "bread"}',
        '{"id": "b"}',
        "{",
        '{"id": "c", "text": " "}',
        '{"id": "d", "vector": [1, 2]}',
        '{"id": "e", "code_b64": "AAAA"}',
        '{"id": "f", "text": "winter", "metadata": [1]}',
        '{"id": "g", "text": "winter", "more": 1}',
        '{"id": "h", "text": "winter"}',
    ]
    file = tmp_path / "in.ndjson"
    file.write_text("\n".join(lines))
    assert encode(bundle, tmp_path / "out", file) == 1
    shown = capsys.readouterr()
    assert "2 rows encoded, 8 rejected" in shown.out and "in.ndjson: row or line 2: InvalidId" in shown.err
    assert records_in(tmp_path / "out").keys() == {"a", "h"}
    assert [(row["line"], row["error"], row["file"]) for row in rejected_in(tmp_path / "out")] == [
        (2, "InvalidId", "in.ndjson"),
        (3, "InvalidOption", "in.ndjson"),
        (4, "Malformed", "in.ndjson"),
        (5, "InvalidText", "in.ndjson"),
        (6, "DimensionMismatch", "in.ndjson"),
        (7, "InvalidOption", "in.ndjson"),
        (8, "InvalidMetadata", "in.ndjson"),
        (9, "InvalidOption", "in.ndjson"),
    ]
    assert encode(bundle, tmp_path / "out", file) == 1  # as long as they are rejected
    assert encode(bundle, tmp_path / "out", file, more=("--allow-rejected",)) == 0
    file.write_text(f"{lines[0]}\n{lines[-1]}\n")
    assert encode(bundle, tmp_path / "out", file) == 1
    assert "made of other files" in capsys.readouterr().err


def test_a_file_that_is_cut_short_is_said_once(bundle: Bundle, tmp_path: Path) -> None:
    text = "id,text\n" + "".join(f"p{n},{text_of(n)} {n * 7919 % 1000}\n" for n in range(2000))
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text.encode())[:-900])
    codes = [
        encode(bundle, tmp_path / "out", tmp_path / "in.csv.gz", more=("--part", f"{part}/3")) for part in range(3)
    ]
    assert sorted(codes) == [0, 0, 1]
    [error] = rejected_in(tmp_path / "out")
    assert error["error"] == "Malformed" and "cut short" in error["detail"]
    found = {int(name[1:]) for name in records_in(tmp_path / "out")}
    assert found == set(range(len(found))) and found


def test_a_part_that_is_there_is_kept_and_another_is_refused(bundle: Bundle, tmp_path: Path, capsys: Printed) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(300))
    out = tmp_path / "out"
    assert encode(bundle, out, file, more=("--parts", "2")) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert encode(bundle, out, file, more=("--parts", "2", "--json")) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    capsys.readouterr()

    def refused(message: str, *more: str, bundle: Bundle = bundle) -> None:
        assert encode(bundle, out, file, more=more) == 1
        assert message in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before

    refused("this encoding has 3 parts; give --parts 2", "--parts", "3")
    refused("this encoding has 4 parts", "--part", "1/4")
    refused("made with other options", "--parts", "2", "--keep-text", "body")
    write_parquet(file, rows_of(301))
    refused("made of other files", "--parts", "2")
    path = out / "part-00000-of-00002.parquet"
    path.write_bytes(b"PAR1 and no more")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    refused("cannot be read", "--parts", "2")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--part", "2/2"), "--part: expected i/n"),
        (("--part", "-1/2"), "--part: expected i/n"),
        (("--part", "0"), "--part: expected i/n"),
        (("--part", "0/0"), "--part: expected i/n"),
        (("--part", "0/2", "--parts", "2"), "leave --parts out"),
        (("--vector-field", "year"), "vectors are lists of numbers"),
        (("--text-field", "none"), "there is no column 'none'"),
        (("--flat",), "--flat applies to NDJSON"),
        (("--data-dir", "elsewhere"), "--data-dir says where bundles are"),
    ],
)
def test_what_does_not_apply_is_refused(
    bundle: Bundle, tmp_path: Path, capsys: Printed, more: tuple[str, ...], message: str
) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(3))
    assert encode(bundle, tmp_path / "out", file, more=more) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_a_bundle_cannot_encode_is_refused_at_once(tmp_path: Path, capsys: Printed) -> None:
    file = write_parquet(tmp_path / "in.parquet", rows_of(3))
    for name, message in (("minilm@1", "no embedding model"), ("none@1", "none@1")):
        arguments = ("encode", str(file), "--bundle", name, "--data-dir", str(tmp_path), "-o", str(tmp_path / "out"))
        assert run(*arguments) == 1
        assert message in capsys.readouterr().err
    np.save(tmp_path / "rows.npy", np.ones((2, 384), np.float32))
    arguments = ("encode", str(tmp_path / "rows.npy"), "--bundle", "minilm@1", "-o", str(tmp_path / "out"))
    assert run(*arguments, "--keep-text", "body") == 1
    assert "--keep-text does not apply" in capsys.readouterr().err
    assert run("encode", "-", "--bundle", "minilm@1", "-o", str(tmp_path / "out")) == 1
    assert "stdin cannot be divided" in capsys.readouterr().err


def test_one_that_was_killed_goes_on_and_ends_with_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    file = write_ndjson(tmp_path / "in.ndjson", rows_of(3000))
    assert encode(bundle, tmp_path / "whole", file, more=("--parts", "4")) == 0
    out = tmp_path / "out"
    command = ["encode", str(file), "--bundle", str(bundle.path), "-o", str(out), "--parts", "4"]
    for wanted in (".part-*.tmp", "part-00001-*", ".part-00003*.tmp"):
        with subprocess.Popen(
            [sys.executable, "-c", "from bebr.cli import main; main()", *command], stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_until(lambda wanted=wanted: process.poll() is not None or [*out.glob(wanted)], wanted)
            finally:
                process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE_SECONDS) in (0, -signal.SIGKILL)  # 0: it was faster than we looked
    assert run(*command) == 0
    assert files_in(out) == files_in(tmp_path / "whole")
