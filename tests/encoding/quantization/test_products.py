"""What a process that only searches is told of a graph, against a process that opened the graph itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.waiting import PATIENCE_SECONDS

from bebr.core.types import Role
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.products import ToldProducts
from bebr.errors import DamagedBundle

BUNDLES = ("minilm@1", "minilm@2")
"""Without and with a rescore code."""
ROWS = np.random.default_rng(0).standard_normal((40, 384)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.fixture(scope="module", params=BUNDLES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, Encoder]:
    """The encoder of a primary, and that of its follower."""
    bundle, folder = BundleRegistry([shipped_bundles()]).get(request.param), tmp_path_factory.mktemp("told")
    primary = Encoder(bundle, told=ToldProducts(folder, Role.PRIMARY))
    primary.warm_up()
    follower = Encoder(bundle, told=ToldProducts(folder, Role.FOLLOWER))
    follower.warm_up(encodes=False)
    return primary, follower


def test_queries_are_the_same_to_the_last_bit_and_open_no_graph(pair: tuple[Encoder, Encoder]) -> None:
    primary, follower = pair
    assert not follower.is_open
    np.testing.assert_array_equal(follower.project(ROWS), primary.project(ROWS))
    np.testing.assert_array_equal(follower.mean, primary.mean)
    records = primary.encode(ROWS)
    np.testing.assert_array_equal(follower.decode(records), primary.decode(records))
    np.testing.assert_array_equal(follower.code_query(records), primary.code_query(records))
    if primary.spec.rescore is not None:
        np.testing.assert_array_equal(follower.project_rescore(ROWS), primary.project_rescore(ROWS))
    assert not follower.is_open


def test_records_are_the_same_once_it_makes_some_after_all(pair: tuple[Encoder, Encoder]) -> None:
    primary, follower = pair
    np.testing.assert_array_equal(follower.encode(ROWS), primary.encode(ROWS))
    assert follower.is_open


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other", "shape"])
def test_where_nothing_right_is_told_the_graph_is_opened(tmp_path: Path, damage: str) -> None:
    bundle = BundleRegistry([shipped_bundles()]).get("minilm@1")
    primary = Encoder(bundle, told=ToldProducts(tmp_path, Role.PRIMARY))
    expected = primary.project(ROWS)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "shape":
            with path.open("wb") as file:
                np.savez(file, matrix=np.ones((3, 4), np.float32), error=0.0, mean=np.zeros(3, np.float32))
        case _:
            path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"no archive"}[damage])
    follower = Encoder(bundle, told=ToldProducts(tmp_path, Role.FOLLOWER))
    assert follower.is_open
    np.testing.assert_array_equal(follower.project(ROWS), expected)


def test_a_graph_that_changed_meanwhile_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "bundles" / "minilm@1"
    shutil.copytree(shipped_bundles() / "minilm@1", folder)
    bundle = BundleRegistry([folder.parent]).get("minilm@1")
    Encoder(bundle, told=ToldProducts(tmp_path, Role.PRIMARY)).project(ROWS)
    follower = Encoder(bundle, told=ToldProducts(tmp_path, Role.FOLLOWER))
    with (folder / "binarizer.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\xff\xff")
    assert len(follower.project(ROWS)) == len(ROWS)
    with pytest.raises(DamagedBundle, match="SHA-256"):
        follower.open()


def test_who_is_told_loads_no_onnx_runtime(tmp_path: Path) -> None:
    bundle = BundleRegistry([shipped_bundles()]).get("minilm@2")
    Encoder(bundle, told=ToldProducts(tmp_path, Role.PRIMARY)).warm_up()
    program = f"""
import sys
from pathlib import Path
from bebr.core.types import Role
from bebr.encoding import BundleRegistry, shipped_bundles
from bebr.encoding.encoder import Encoder
from bebr.encoding.quantization.products import ToldProducts
bundle = BundleRegistry([shipped_bundles()]).get("minilm@2")
Encoder(bundle, told=ToldProducts(Path({str(tmp_path)!r}), Role.FOLLOWER)).warm_up(encodes=False)
print("onnxruntime" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert ended.stdout.split() == ["False"]
