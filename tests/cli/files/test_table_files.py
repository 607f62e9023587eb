"""Parquet, .npy and .fvecs as points."""

from base64 import b64decode
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from tests.cli.files.reading import points_of

from bebr.cli.files.columns import FileOptions, Target
from bebr.cli.files.sources import Sources
from bebr.core.types import FieldType
from bebr.errors import InvalidOption, Malformed

VECTORS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def table(folder: Path, name: str = "a.parquet", **columns: Any) -> Path:
    parquet.write_table(arrow.table(columns), folder / name, row_group_size=2)
    return folder / name


def vector(point: dict[str, Any]) -> list[float]:
    return np.frombuffer(b64decode(point["vector_b64"]), "<f4").tolist()


@pytest.mark.parametrize(
    "kind",
    [
        arrow.list_(arrow.float32()),
        arrow.large_list(arrow.float64()),
        arrow.list_(arrow.float32(), 4),
        arrow.list_(arrow.float64(), 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["embedding", "vector", "emb"])
def test_vectors_ids_texts_and_metadata(tmp_path: Path, kind: Any, name: str):
    path = table(
        tmp_path,
        **{name: arrow.array(VECTORS.tolist(), kind)},
        id=arrow.array([10, 11, 12, 13, 14]),
        text=["a", "b", "c", None, "e"],
        price=[1.5, float("nan"), None, 2.0, 3.0],
    )
    points, rejected = points_of(path)
    assert rejected == [] and list(points) == [1, 2, 3, 4, 5]
    assert [point["id"] for point in points.values()] == ["10", "11", "12", "13", "14"]
    assert [vector(point) for point in points.values()] == VECTORS.tolist()
    assert [point["metadata"] for point in points.values()][:4] == [
        {"text": "a", "price": 1.5},
        {"text": "b"},
        {"text": "c"},
        {"price": 2.0},
    ]
    assert points_of(path, target=Target(text_field="body"))[0][1]["metadata"]["body"] == "a"


def test_a_row_without_a_vector_is_rejected_by_its_number(tmp_path: Path):
    for kind in (arrow.list_(arrow.float32()), arrow.list_(arrow.float32(), 4)):
        rows: list[Any] = VECTORS.tolist()
        rows[1] = None
        odd = arrow.array([b"x", None, b"y", None, None], arrow.binary())
        points, rejected = points_of(table(tmp_path, emb=arrow.array(rows, kind)))
        assert [(e["line"], e["error"]) for e in rejected] == [(2, "InvalidVector")]
        assert [vector(point) for point in points.values()] == VECTORS[[0, 2, 3, 4]].tolist()
        points, rejected = points_of(table(tmp_path, emb=arrow.array(rows, kind), odd=odd))
        assert [(e["line"], e["error"]) for e in rejected] == [
            (1, "InvalidMetadata"),
            (2, "InvalidVector"),
            (3, "InvalidMetadata"),
        ]
        assert [vector(point) for point in points.values()] == VECTORS[3:].tolist()


def test_values_become_those_of_json(tmp_path: Path):
    path = table(
        tmp_path,
        text=["x", "y"],
        at=arrow.array([datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), None], arrow.timestamp("us", "Europe/Paris")),
        naive=arrow.array([datetime(2024, 1, 2), None], arrow.timestamp("us")),
        day=[date(2024, 5, 6), None],
        money=[Decimal("1.50"), Decimal("2.00")],
        tags=[["a", "b"], []],
        nested=[{"a": {"b": 1}}, {"a": None}],
        code=arrow.array([7, 8], arrow.int32()),
        year=["2024", "no"],
    )
    target = Target({"code": FieldType.KEYWORD, "year": FieldType.INTEGER})
    first, second = points_of(path, target=target)[0].values()
    assert first["metadata"] == {
        "at": "2024-01-02T03:04:05Z",
        "naive": "2024-01-02T00:00:00Z",
        "day": "2024-05-06",
        "money": 1.5,
        "tags": ["a", "b"],
        "nested": {"a": {"b": 1}},
        "code": "7",
        "year": 2024,
    }
    assert first["id"] == "1" and second["metadata"]["year"] == "no" and second["metadata"]["money"] == 2


def test_damaged_parquet_is_refused_before_anything_is_sent(tmp_path: Path):
    path = table(tmp_path, text=["x" * 100] * 100)
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:50], b"", b"PAR1PAR1"):
        path.write_bytes(content)
        with pytest.raises(Malformed, match=r"a\.parquet: it is no whole Parquet file"):
            Sources([str(path)])


def test_columns_that_are_no_vectors_are_refused(tmp_path: Path):
    path = table(tmp_path, id=["a"], emb=["[1, 2]"], text=["x"])
    with pytest.raises(InvalidOption, match="vectors are lists of numbers"):
        Sources([str(path)])
    with pytest.raises(InvalidOption, match="no column 'nope'"):
        Sources([str(table(tmp_path, text=["x"]))], FileOptions(vector_field="nope"))
    with pytest.raises(InvalidOption, match="no column 'text', only id"):
        Sources([str(table(tmp_path, id=["x"]))])


def npy(folder: Path, rows: Any, name: str = "a.npy") -> Path:
    np.save(folder / name, rows)
    return folder / name


def fvecs(folder: Path, rows: np.ndarray[Any, Any]) -> Path:
    heads = np.full((len(rows), 1), rows.shape[1], "<i4").view("<f4")
    np.hstack([heads, rows.astype("<f4")]).tofile(folder / "a.fvecs")
    return folder / "a.fvecs"


@pytest.mark.parametrize("write", [npy, fvecs])
def test_vectors_with_ids_beside(tmp_path: Path, write: Any):
    path = write(tmp_path, VECTORS)
    points, _ = points_of(path)
    assert [point["id"] for point in points.values()] == ["0", "1", "2", "3", "4"]
    assert [vector(point) for point in points.values()] == VECTORS.tolist()
    ids = tmp_path / "ids.txt"
    ids.write_text("a\r\nb\nc\nd\ne")
    assert [point["id"] for point in points_of(path, ids=str(ids))[0].values()] == list("abcde")
    ids.write_text("a\nb\n")
    with pytest.raises(InvalidOption, match=r"has 5 vectors, and ids\.txt 2 ids"):
        Sources([str(path)], FileOptions(ids=str(ids)))
    with pytest.raises(InvalidOption, match="no file"):
        Sources([str(path)], FileOptions(ids=str(tmp_path / "none")))
    with pytest.raises(InvalidOption, match="--ids belongs to one file"):
        Sources([str(path), str(path)], FileOptions(ids=str(ids)))


def test_several_files_of_vectors_go_on_counting(tmp_path: Path):
    points, _ = points_of(npy(tmp_path, VECTORS), npy(tmp_path, VECTORS.astype(np.float16), "b.npy"))
    assert [point["id"] for point in points.values()] == [str(n) for n in range(10)]


def test_damaged_files_of_vectors_are_refused(tmp_path: Path):
    path = npy(tmp_path, VECTORS)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Malformed, match=r"no whole \.npy"):
        Sources([str(path)])
    for rows in (np.ones(5, np.float32), np.array([["a"]]), np.ones((2, 2), complex)):
        with pytest.raises(InvalidOption, match=r"expected an array \(vectors, dims\)"):
            Sources([str(npy(tmp_path, rows))])
    with pytest.raises(Malformed, match=r"no whole \.npy"):
        Sources([str(npy(tmp_path, np.array([[None]], object)))])
    with (tmp_path / "several.npy").open("wb") as stream:
        np.savez(stream, a=VECTORS, b=VECTORS)
    with pytest.raises(Malformed, match=r"no whole \.npy"):
        Sources([str(tmp_path / "several.npy")])
    path = fvecs(tmp_path, VECTORS)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-2], "no whole number"),
        (b"", "it is empty"),
        (whole[:20] + b"\x05" + whole[21:], "row 2 says that it has 5 dims"),
    ):
        path.write_bytes(content)
        with pytest.raises(Malformed, match=message):
            Sources([str(path)])
