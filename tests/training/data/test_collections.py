"""Every layout of a collection is read, and what is wrong with one is said."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.client.running import tiny_text_bundle
from tests.encoding.quantization.embeddings import DIMS, text_like
from tests.training.evaluated import write_collection

from bebr.encoding.encoder import Encoder
from bebr.errors import BebrError
from bebr_training.data.collections import TextEmbedder, find_collections, open_collection, read_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "mine")


def test_embeddings_with_judgments(folder: Path):
    found = open_collection(folder, 30)
    assert (found.name, found.documents.shape, found.queries.shape) == ("mine", (400, DIMS), (30, DIMS))
    assert found.judgments is not None
    nearest = (found.queries @ found.documents.T).argmax(axis=1)
    assert [max(grades, key=lambda row: grades[row]) for grades in found.judgments.values()] == nearest.tolist()
    assert list(found.judgments) == list(range(30))


def test_without_ids_judgments_name_rows(folder: Path):
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).unlink()
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n7\t12\t1\n3\t0\t2\n")
    found = open_collection(folder, 100)
    assert found.judgments == {0: {0: 2.0}, 1: {12: 1.0}}
    np.testing.assert_allclose(found.queries, text_like(40, seed=1)[[3, 7]], atol=1e-6)


def test_fvecs_and_parquet_hold_the_same(folder: Path):
    expected = open_collection(folder, 40)
    documents, queries = np.load(folder / "docs.npy"), np.load(folder / "queries.npy")
    (folder / "docs.npy").unlink()
    (folder / "queries.npy").unlink()
    heads = np.full((len(documents), 1), DIMS, np.int32)
    np.hstack([heads, documents.view(np.int32)]).tofile(folder / "docs.fvecs")
    table = pyarrow.table({"n": list(range(40)), "embedding": [row.tolist() for row in queries]})
    pyarrow.parquet.write_table(table, folder / "queries.parquet")
    found = open_collection(folder, 40)
    np.testing.assert_array_equal(found.documents, expected.documents)
    np.testing.assert_allclose(found.queries, expected.queries, atol=1e-7)


def test_integers_with_scales_and_rows_of_a_larger_corpus(folder: Path):
    for side, name in (("docs", "db"), ("queries", "queries")):
        rows = np.load(folder / f"{side}.npy")[: 200 if side == "docs" else 40]
        scales = np.abs(rows).max(axis=1) / 127
        np.save(folder / f"{name}.new.i8.npy", np.rint(rows / scales[:, None]).astype(np.int8))
        np.save(folder / f"{name}.new.scale.npy", scales.astype(np.float32))
        (folder / f"{side}.npy").unlink()
    np.save(folder / "db_rows.i32.npy", np.arange(0, 400, 2).astype(np.int32))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td6\t1\nq1\td7\t1\n")
    found = open_collection(folder, 40, model="new")
    assert found.judgments == {0: {3: 1.0}, 1: {}}
    assert len(open_collection(folder, 40).documents) == 200
    np.testing.assert_allclose(np.linalg.norm(found.documents, axis=1), 1, atol=1e-5)
    for path in list(folder.glob("*.new.*")):
        path.with_name(path.name.replace(".new.", ".old.")).write_bytes(path.read_bytes())
    with pytest.raises(BebrError, match="embeddings of new, old; choose one with --model"):
        open_collection(folder, 40)
    with pytest.raises(BebrError, match="no embeddings of 'newer', only of new, old"):
        open_collection(folder, 40, model="newer")


def test_texts_are_embedded_once(folder: Path, tmp_path: Path):
    for name in ("docs.npy", "queries.npy"):
        (folder / name).unlink()
    packed = folder / "corpus.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()
    encoder = Encoder(tiny_text_bundle(tmp_path / "bundles", tmp_path / "checkpoint"))
    seen: list[tuple[int, int]] = []
    embedder = TextEmbedder(encoder, tmp_path / "cache", lambda done, total, label: seen.append((done, total)))
    found = open_collection(folder, 40, embedder=embedder)
    assert found.documents.shape == (400, encoder.bundle.embedding_dims)
    assert seen[-1] == (40, 40) and (400, 400) in seen
    seen.clear()
    np.testing.assert_array_equal(open_collection(folder, 40, embedder=embedder).documents, found.documents)
    assert not seen
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_texts_of_beir(tmp_path: Path):
    lines = [{"_id": "a", "title": "One.", "text": "two"}, {"id": 7, "text": "three"}, {"_id": "c", "title": "four"}]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read_texts(path) == (["a", "7", "c"], ["One. two", "three", "four"])


def spoil(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        if isinstance(value, np.ndarray):
            np.save(folder / name, value)
        elif value is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(str(value).encode())

    return change


BAD_ROW = text_like(400)
BAD_ROW[3, 5] = np.nan
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("docs.npy", BAD_ROW), r"docs\.npy: row 3: number 5 of the embedding is nan"),
        (spoil("docs.npy", np.zeros((400, DIMS), np.float32)), "row 0: the embedding is all zeros"),
        (spoil("docs.npy", np.ones((400, 32), np.float32)), "documents have 32 dims, queries 64"),
        (spoil("docs.npy", np.ones(5, np.float32)), r"expected a 2-D array \(rows, dims\), got shape \(5,\)"),
        (spoil("docs.npy", np.array([["a"]])), "expected embeddings of numbers"),
        (spoil("docs.npy", "text"), "is not a .npy file"),
        (spoil("docs.npy", text_like(399)), r"corpus\.jsonl has 400 lines for 399 embeddings"),
        (spoil("docs.npy", None), "has no embeddings: expected docs.npy"),
        (spoil("queries.npy", None), "has no embeddings: expected queries.npy"),
        (spoil("corpus.jsonl", '{"_id": "a"}\n{"_id": "a"}'), "duplicate id 'a'"),
        (spoil("corpus.jsonl", '{"text": "a"}'), "line 1 has neither '_id' nor 'id'"),
        (spoil("corpus.jsonl", "{"), "line 1 is not valid JSON"),
        (spoil("corpus.jsonl", "[]"), "line 1 is not a JSON object"),
        (spoil("qrels.tsv", HEADER + "q0\td999\t1\n"), "line 2: there is no document 'd999'"),
        (spoil("qrels.tsv", HEADER + "q99\td0\t1\n"), "line 2: there is no query 'q99'"),
        (spoil("qrels.tsv", HEADER + "q0 d0 1\n"), "line 2: expected query-id, corpus-id and a number"),
        (spoil("qrels.tsv", HEADER + "q0\td0\tnan\n"), "line 2: expected query-id, corpus-id and a number"),
        (spoil("qrels.tsv", HEADER), "no judgments below its header"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, change: Callable[[Path], None], message: str):
    change(folder)
    with pytest.raises(BebrError, match=message):
        open_collection(folder, 40)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("docs.fvecs", b"12345", "is not an .fvecs file"),
        ("docs.fvecs", np.array([1, 0, 2, 0], np.int32).tobytes(), "rows differ in length"),
        ("docs.parquet", b"PAR1", "is not a Parquet file"),
        ("docs.new.i8.npy", b"", "is not a .npy file"),
    ],
)
def test_files_that_are_not_what_they_are_called(folder: Path, name: str, content: bytes, message: str):
    (folder / "docs.npy").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(BebrError, match=message):
        open_collection(folder, 40)


def test_a_parquet_file_without_one_column_of_lists(folder: Path):
    (folder / "docs.npy").unlink()
    path = folder / "docs.parquet"
    for table, message in (
        ({"a": [1.0, 2.0]}, "one column of lists of floats, got none"),
        ({"a": [[1.0], [1.0, 2.0]]}, "differ in length"),
        ({"a": [[1.0], None]}, "missing or differ in length"),
    ):
        pyarrow.parquet.write_table(pyarrow.table(table), path)
        with pytest.raises(BebrError, match=message):
            open_collection(folder, 40)


def test_options_that_do_not_apply(folder: Path, tmp_path: Path):
    encoder = Encoder(tiny_text_bundle(tmp_path / "bundles", tmp_path / "checkpoint"))
    with pytest.raises(BebrError, match="--base does not apply"):
        open_collection(folder, 40, embedder=TextEmbedder(encoder))
    with pytest.raises(BebrError, match="--model does not apply"):
        open_collection(folder, 40, model="new")


def test_folders_of_collections(folder: Path, tmp_path: Path):
    other = write_collection(tmp_path / "another", qrels=False)
    (tmp_path / "empty").mkdir()
    assert find_collections([tmp_path]) == [other, folder]
    assert find_collections([folder]) == [folder]
    for wrong, message in ((tmp_path / "empty", "has no collection"), (tmp_path / "none", "there is no folder")):
        with pytest.raises(BebrError, match=message):
            find_collections([wrong])
    assert open_collection(other, 5).judgments is None
