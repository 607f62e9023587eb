"""Bundles of text models that share nothing, with and without adapters between them, and texts for them."""

from pathlib import Path

import numpy as np
from tests.encoding.importing.checkpoints import DIMS, WORDS, write_checkpoint

from bebr.core.arrays import unit
from bebr.core.codes import CodeSpec
from bebr.encoding import AdapterFiles, AdapterKind, Bundle, CompatibilityFiles, TextKind, write_bundle
from bebr.encoding.adapters.adapter import Reference, spread
from bebr.encoding.encoder import Encoder
from bebr.encoding.importing.checkpoint import import_checkpoint
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr_training.adapters.graph import adapter_to_onnx
from bebr_training.adapters.maps import EmbeddingMap, procrustes, ridge

SHORT = Effort(warm=3, full=1)
WEIGHT = 0.5


def texts(count: int, seed: int = 0) -> list[str]:
    """Different texts of a few words."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(WORDS[:-4], int(rng.integers(4, 9))))] = None
    return list(found)


def text_bundle(folder: Path, bundle_id: str, seed: int, code: str = "32x4", old: Bundle | None = None) -> Bundle:
    """A model of random weights by seed and a binarizer fitted to what it embeds; with `old`, adapters to that."""
    name, _, version = bundle_id.partition("@")
    model = import_checkpoint(write_checkpoint(folder / f".{name}-{version}", seed=seed))
    embedder = Encoder(write_bundle(folder / ".texts", name, version, embedding_dims=DIMS, embedding=model.files))
    rows = embedder.embed(texts(300), TextKind.PASSAGE)
    binarizer = files_of(fit_recurrent(rows, CodeSpec.parse(code), effort=SHORT))
    bundle = write_bundle(folder, name, version, embedding_dims=DIMS, binarizer=binarizer, embedding=model.files)
    if old is None:
        return bundle
    return write_bundle(
        folder,
        name,
        version,
        embedding_dims=DIMS,
        binarizer=binarizer,
        embedding=model.files,
        compatible_with=[adapters(bundle, old)],
        replace=True,
    )


def adapters(new: Bundle, old: Bundle) -> CompatibilityFiles:
    """Closed-form maps both kinds, fitted to 300 texts."""
    encoders = Encoder(new), Encoder(old)
    here, there = (encoder.embed(texts(300), TextKind.PASSAGE) for encoder in encoders)
    codes = [encoder.decode(encoder.encode(rows)) for encoder, rows in zip(encoders, (here, there), strict=True)]
    reference = Reference(codes[0][:200], codes[1][:200])
    return CompatibilityFiles(
        old.id,
        old.fingerprint,
        old.embedding_dims,
        adapter(here, there, reference),
        adapter(there, here, reference.turned()),
        reference.to_bytes(),
        {},
    )


def adapter(here: np.ndarray, there: np.ndarray, reference: Reference) -> AdapterFiles:
    basis, matrix = procrustes(here, there), ridge(here, there, 0.01)
    crossed = {
        AdapterKind.COMPATIBLE: unit(here @ basis),
        AdapterKind.LINEAR: unit(here @ matrix),
        AdapterKind.DUAL: there,
    }
    crossed[AdapterKind.WEIGHTED] = unit(WEIGHT * crossed[AdapterKind.LINEAR] + (1 - WEIGHT) * there)
    own = spread(here, reference.here)
    scales = {kind: own / spread(rows, reference.there) for kind, rows in crossed.items()}
    graph = adapter_to_onnx(basis, EmbeddingMap(matrix))
    return AdapterFiles(graph, scales, AdapterKind.WEIGHTED, WEIGHT)
