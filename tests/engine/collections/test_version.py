"""The kind of a version is decided when it is made, and found again in what the store keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.server.bundles import TINY, write_tiny_bundle

from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import InvalidOption


def test_every_kind_comes_back_from_the_store(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundles", tmp_path / "scratch")
    bundle = Bundle.load(tmp_path / "bundles" / TINY)
    buffered = Version.buffered(2, 32, "model@1", "f" * 64)
    versions = [
        Version.raw(0, CodeSpec.parse("24x2")),
        Version.of_bundle(1, bundle),
        buffered,
        Version.rotated(3, 32, CodeSpec.parse("64x1")),
        Version.fitted(4, bundle, buffered, {"recall_at_10": 0.5}),
    ]
    assert [version.kind for version in versions] == [*VersionKind]
    for number, version in enumerate(versions):
        again = Version.from_document(number, json.loads(json.dumps(version.to_document())))
        np.testing.assert_array_equal(again.steps, version.steps)
        for field in ("number", "id", "kind", "spec", "bundle", "fingerprint", "model", "model_fingerprint", "metrics"):
            assert getattr(again, field) == getattr(version, field), (version.kind, field)
    assert (versions[4].model, versions[4].model_fingerprint) == ("model@1", "f" * 64)


def test_a_buffered_version_keeps_its_old_name_in_the_store() -> None:
    version = Version.buffered(0, 16, None, None)
    document = version.to_document()
    assert (version.id, document["id"], document["staged_dims"]) == ("buffered", "staging", 16)
    with pytest.raises(InvalidOption, match="20000 dims are not taken"):
        Version.buffered(0, 20000, None, None)
