"""A segment with lists and its centroids, as the first release with lists wrote them, are read as they were."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from bebr import kernel
from bebr.index.lists import centroid_files
from bebr.index.lists.assigning import assign
from bebr.index.segment import Segment

FOLDER = Path(__file__).parent / "lists-1"


def test_a_segment_with_lists_is_read(tmp_path: Path) -> None:
    expected = json.loads((FOLDER / "expected.json").read_text())
    for name, digest in expected["files"].items():
        shutil.copy(FOLDER / name, tmp_path)
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:12] == digest
    segment, centroids = Segment(tmp_path / "listed.seg"), centroid_files.load(tmp_path / "listed.centroids")
    assert segment.lists is not None
    assert (segment.lists.generation, len(segment.lists)) == (expected["generation"], expected["lists"])
    assert segment.lists.checksum is None and segment.lists.are_of(centroids)  # it came later
    assert segment.ids_at(range(segment.rows)) == expected["ids"]
    assert segment.lists.numbers().tolist() == expected["numbers"]
    every = segment.first_kept(np.ones(segment.rows, bool), None, None).tolist()
    assert segment.ids_at(every) == sorted(expected["ids"])
    codes = kernel.unpack(segment.blocked, segment.spec, np.arange(segment.rows))
    assert [code.tobytes().hex() for code in codes] == expected["codes"]
    assert centroids.values.tobytes().hex() == expected["centroid_values"]
    assert centroids.assigning.values.tobytes().hex() == expected["assigning_values"]
    numbers, _ = assign(segment.blocked, segment.rows, segment.spec, centroids.assigning)
    assert numbers.tolist() == expected["numbers"]
