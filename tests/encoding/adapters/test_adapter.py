"""Adapters: every kind against plain numpy, scores brought to one scale, and files that are read strictly."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bebr.core.arrays import unit
from bebr.core.codes import CodeSpec
from bebr.encoding import AdapterFiles, AdapterKind, BinarizerFiles, Bundle, CompatibilityFiles, write_bundle
from bebr.encoding.adapters.adapter import TAIL_SHARE, Adapter, Reference, open_adapters, spread, tails
from bebr.encoding.bundles.manifest import canonical_sha256
from bebr.encoding.bundles.manifest_json import read_manifest, write_manifest
from bebr.encoding.onnx.graph import Graph
from bebr.errors import DamagedBundle

DIMS, OLD_DIMS, TEXTS = 6, 4, 50
RNG = np.random.default_rng(0)
BASIS, MATRIX = (RNG.standard_normal((DIMS, OLD_DIMS)).astype(np.float32) for _ in range(2))
SCALES = {AdapterKind.COMPATIBLE: 1.5, AdapterKind.LINEAR: 2.0, AdapterKind.DUAL: 0.5, AdapterKind.WEIGHTED: 1.25}
BINARIZER = BinarizerFiles(b"not really a graph", CodeSpec.parse("4x4"), np.array([0.1], np.float32))


def rows(count: int, dims: int) -> np.ndarray:
    return unit(RNG.standard_normal((count, dims)).astype(np.float32))


REFERENCE = Reference(rows(TEXTS, DIMS), rows(TEXTS, OLD_DIMS))


def saved(array: np.ndarray) -> bytes:
    """As a .npy file, which is no archive."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def graph(basis: np.ndarray, matrix: np.ndarray, dims: int, theirs: int, kinds: tuple[str, ...] = ()) -> bytes:
    made = Graph()
    names = kinds or ("compatible", "adapter")
    for name, values in zip(names, (basis, matrix), strict=True):
        made.constant(f"{name}_matrix", values)
        made.node("MatMul", ["embedding", f"{name}_matrix"], name)
    outputs = dict.fromkeys(names, (np.float32, ("n", theirs)))
    return made.serialize("adapter", {"embedding": (np.float32, ("n", dims))}, outputs)


FORWARD = AdapterFiles(graph(BASIS, MATRIX, DIMS, OLD_DIMS), SCALES, AdapterKind.WEIGHTED, 0.7)
BACKWARD = AdapterFiles(graph(BASIS.T.copy(), MATRIX.T.copy(), OLD_DIMS, DIMS), SCALES, AdapterKind.DUAL, 0.3)


def written(folder: Path, **changes: Any) -> Bundle:
    given = {
        "bundle": "old@1",
        "fingerprint": "a" * 64,
        "embedding_dims": OLD_DIMS,
        "forward": FORWARD,
        "backward": BACKWARD,
        "reference": REFERENCE.to_bytes(),
        "figures": {"method": "tests"},
    }
    files = CompatibilityFiles(**(given | changes))
    return write_bundle(folder, "new", "1", embedding_dims=DIMS, binarizer=BINARIZER, compatible_with=[files])


def adapters(bundle: Bundle) -> tuple[Adapter, Adapter]:
    return open_adapters(bundle, bundle.manifest.compatible_with[0])


def test_every_kind_equals_plain_numpy(tmp_path: Path) -> None:
    forward, backward = adapters(written(tmp_path))
    embeddings, dual = rows(20, DIMS), rows(20, OLD_DIMS)
    learned = embeddings @ MATRIX / np.linalg.norm(embeddings @ MATRIX, axis=1, keepdims=True)
    summed = np.float32(0.7) * learned + np.float32(0.3) * dual
    expected = {
        AdapterKind.COMPATIBLE: embeddings @ BASIS / np.linalg.norm(embeddings @ BASIS, axis=1, keepdims=True),
        AdapterKind.LINEAR: learned,
        AdapterKind.DUAL: dual,
        AdapterKind.WEIGHTED: summed / np.linalg.norm(summed, axis=1, keepdims=True),
    }
    for kind, crossed in expected.items():
        np.testing.assert_allclose(forward.map(kind, embeddings, dual), crossed, atol=1e-6)
    back = backward.map(AdapterKind.LINEAR, dual, None)
    np.testing.assert_allclose(back, unit(dual @ MATRIX.T), atol=1e-6)
    assert (forward.default, backward.default, float(backward.weight)) == (
        AdapterKind.WEIGHTED,
        AdapterKind.DUAL,
        np.float32(0.3),
    )


def slow_tail(query: np.ndarray, texts: np.ndarray) -> float:
    scores = sorted((float(query @ text) for text in texts), reverse=True)
    count = max(1, round(TAIL_SHARE * len(texts)))
    return sum(scores[:count]) / count


@pytest.mark.parametrize("texts", [1, 10, 50, 200])
def test_tails_equal_a_slow_loop(texts: int) -> None:
    queries, known = rows(9, DIMS), rows(texts, DIMS)
    np.testing.assert_allclose(tails(queries, known), [slow_tail(query, known) for query in queries], atol=1e-6)


def test_offsets_bring_tails_together(tmp_path: Path) -> None:
    forward = adapters(written(tmp_path))[0]
    embeddings, dual, here, there = rows(9, DIMS), rows(9, OLD_DIMS), forward.reference.here, forward.reference.there
    for kind in AdapterKind:
        crossed = forward.map(kind, embeddings, dual)
        found = forward.offsets(kind, embeddings, crossed)
        pairs = zip(embeddings, crossed, strict=True)
        slow = [slow_tail(own, here) - SCALES[kind] * slow_tail(other, there) for own, other in pairs]
        np.testing.assert_allclose(found, slow, atol=1e-6)
        np.testing.assert_allclose(SCALES[kind] * tails(crossed, there) + found, tails(embeddings, here), atol=1e-6)


def test_spread_is_the_unit_of_scores() -> None:
    queries, texts = rows(9, DIMS), rows(200, DIMS)
    assert spread(queries, 3 * texts) == pytest.approx(3 * spread(queries, texts), rel=1e-5)
    longer = np.hstack([texts, np.ones((200, 1), np.float32)])  # the same constant on every score
    shifted = np.hstack([queries, np.full((9, 1), 5, np.float32)])
    assert spread(shifted, longer) == pytest.approx(spread(queries, texts), rel=1e-4) and spread(queries, texts) > 0


def test_other_texts_give_other_scales_to_the_same_maps(tmp_path: Path) -> None:
    forward = adapters(written(tmp_path))[0]
    other = Reference(rows(80, DIMS), rows(80, OLD_DIMS))
    embeddings, dual = rows(30, DIMS), rows(30, OLD_DIMS)
    made = forward.calibrated(other, embeddings, dual)
    for kind in AdapterKind:
        crossed = forward.map(kind, embeddings, dual)
        np.testing.assert_array_equal(made.map(kind, embeddings, dual), crossed)
        assert made.scales[kind] == pytest.approx(spread(embeddings, other.here) / spread(crossed, other.there))
    assert dict(forward.scales) == SCALES and forward.reference is not made.reference is other
    blind = forward.calibrated(other, embeddings, None).scales
    assert [blind[kind] for kind in AdapterKind] == [
        made.scales[AdapterKind.COMPATIBLE],
        made.scales[AdapterKind.LINEAR],
        SCALES[AdapterKind.DUAL],
        SCALES[AdapterKind.WEIGHTED],
    ]
    flat = Reference(np.ones((80, DIMS), np.float32), np.ones((80, OLD_DIMS), np.float32))
    assert set(forward.calibrated(flat, embeddings, dual).scales.values()) == {1.0}


def test_a_reference_is_read_back_and_turned(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(REFERENCE.to_bytes())
    read = Reference.load(path)
    np.testing.assert_allclose(read.here, REFERENCE.here, atol=1e-3)
    assert read.there.dtype == np.float32 and read.there.flags.c_contiguous
    np.testing.assert_array_equal(read.turned().here, read.there)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        saved(REFERENCE.here),
        REFERENCE.to_bytes()[:-40],
        Reference(REFERENCE.here, REFERENCE.there[:-1]).to_bytes(),
        Reference(REFERENCE.here[:0], REFERENCE.there[:0]).to_bytes(),
        Reference(REFERENCE.here[0], REFERENCE.there[0]).to_bytes(),
    ],
)
def test_a_damaged_reference_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reference-0.npz").write_bytes(b"")
    with pytest.raises(DamagedBundle, match="cannot be read"):
        Reference.load(tmp_path / "reference-0.npz")
    with pytest.raises(DamagedBundle, match=r"reference-0\.npz"):
        adapters(written(tmp_path, reference=content))


def test_dims_of_the_manifest_are_those_of_the_reference(tmp_path: Path) -> None:
    with pytest.raises(DamagedBundle, match="embeddings of 6 and 4 dims; the manifest says 6 and 5"):
        adapters(written(tmp_path, embedding_dims=OLD_DIMS + 1))


@pytest.mark.parametrize(
    "damaged",
    [
        b"no graph",
        graph(BASIS, MATRIX, DIMS, OLD_DIMS, ("compatible", "other")),
        graph(BASIS[:, :3], MATRIX[:, :3], DIMS, 3),
        graph(BASIS[:5], MATRIX[:5], 5, OLD_DIMS),
    ],
)
def test_a_graph_that_does_not_fit_is_named(tmp_path: Path, damaged: bytes) -> None:
    with pytest.raises(DamagedBundle, match=r"forward-0\.onnx"):
        adapters(written(tmp_path, forward=AdapterFiles(damaged, SCALES, AdapterKind.DUAL, 0.5)))


@pytest.mark.parametrize("name", ["forward-0.onnx", "backward-0.onnx", "reference-0.npz"])
def test_a_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    bundle = written(tmp_path)
    content = bytearray((bundle.path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / name).write_bytes(content)
    with pytest.raises(DamagedBundle, match=name):
        Bundle.load(bundle.path)


def test_the_manifest_keeps_what_was_written(tmp_path: Path) -> None:
    bundle = written(tmp_path)
    assert read_manifest(write_manifest(bundle.manifest)) == bundle.manifest
    (files,) = bundle.read_compatibilities()
    assert files.forward == FORWARD and files.backward == BACKWARD and files.reference == REFERENCE.to_bytes()
    again = write_bundle(
        tmp_path / "again", "new", "1", embedding_dims=DIMS, binarizer=BINARIZER, compatible_with=[files, files]
    )
    assert len(again.manifest.compatible_with) == 2 and len(again.manifest.files) == 7
    plain = write_bundle(tmp_path / "plain", "new", "1", embedding_dims=DIMS, binarizer=BINARIZER)
    assert plain.fingerprint == bundle.fingerprint and "compatible_with" not in json.loads(
        write_manifest(plain.manifest)
    )


def test_a_manifest_of_before_the_kind_linear_is_read_and_stays_as_it_was() -> None:
    old = (Path(__file__).parent.parent / "bundles" / "manifest_with_adapters.json").read_text()
    manifest = read_manifest(old)
    (entry,) = manifest.compatible_with
    assert entry.forward.default is AdapterKind.LINEAR and entry.forward.scales == SCALES
    assert write_manifest(manifest) == old


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first compatibility of a manifest, and make its checksum right again."""
    content = json.loads(path.read_text())
    change(content["compatible_with"][0])
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": canonical_sha256(content)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.update(more=1), "unknown field 'more'"),
        (lambda entry: entry.pop("figures"), "'figures' is missing"),
        (lambda entry: entry.update(fingerprint="abc"), "'fingerprint' must match"),
        (lambda entry: entry.update(embedding_dims=0), "'embedding_dims' must be at least 1"),
        (lambda entry: entry.update(reference="../reference.npz"), "'reference' must match"),
        (lambda entry: entry["forward"].update(weight=1.5), "'weight' must be at most 1"),
        (lambda entry: entry["forward"].update(weight=True), "'weight' must be a positive number"),
        (lambda entry: entry["forward"].update(default="best"), "'default' must be one of"),
        (lambda entry: entry["forward"].update(default="linear"), "'default' must be one of compatible, adapter"),
        (lambda entry: entry["forward"]["scales"].pop("dual"), "'dual' must be a positive number, got None"),
        (lambda entry: entry["forward"]["scales"].update(dual=-1), "'dual' must be a positive number"),
        (lambda entry: entry["forward"]["scales"].update(other=1.0), "unknown field 'other'"),
        (lambda entry: entry["backward"].update(graph="forward-0.onnx"), "'files' lists"),
        (lambda entry: entry["backward"].update(more=1), "unknown field 'more'"),
    ],
)
def test_the_manifest_is_read_strictly(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    bundle = written(tmp_path)
    edit(bundle.path / "manifest.json", change)
    with pytest.raises(DamagedBundle, match=message):
        Bundle.load(bundle.path)
