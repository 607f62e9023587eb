"""A segment with lists and its centroids are read as they were: of the first release with lists, and of the first with
cells and an order of ids of three bytes each."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bebr import kernel
from bebr.index.lists import centroid_files
from bebr.index.lists.assigning import assign_lists
from bebr.index.segment import Segment

FOLDERS = [Path(__file__).parent / name for name in ("lists-1", "lists-2")]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_segment_with_lists_is_read(tmp_path: Path, folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    for name, digest in expected["files"].items():
        shutil.copy(folder / name, tmp_path)
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:12] == digest
    segment, centroids = Segment(tmp_path / "listed.seg"), centroid_files.load(tmp_path / "listed.centroids")
    assert segment.lists is not None
    assert (segment.lists.generation, len(segment.lists)) == (expected["generation"], expected["lists"])
    assert (segment.lists.checksum is None) == (folder.name == "lists-1")  # it came later
    assert segment.lists.are_of(centroids) and segment.lists.is_small == ("order_bytes" in expected)
    assert segment.ids_at(range(segment.rows)) == expected["ids"]
    assert segment.lists.numbers().tolist() == expected["numbers"]
    every = segment.first_kept(np.ones(segment.rows, bool), None, None).tolist()
    assert segment.ids_at(every) == sorted(expected["ids"])
    codes = kernel.unpack(segment.blocked, segment.spec, np.arange(segment.rows))
    assert [code.tobytes().hex() for code in codes] == expected["codes"]
    assert centroids.values.tobytes().hex() == expected["centroid_values"]
    assert centroids.assigning.values.tobytes().hex() == expected["assigning_values"]
    begin = None if centroids.cells is None else centroids.cells.begin.tolist()
    assert begin == expected.get("cells")
    if centroids.cells is not None:
        assert centroids.cells.values.tobytes().hex() == expected["cell_values"]
    numbers, _ = assign_lists(segment.blocked, segment.rows, centroids)
    assert numbers.tolist() == expected["numbers"]
