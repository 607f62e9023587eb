"""Embeddings of the same texts by two models that share no space: stretched, turned, bent, fewer dims, with noise."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.encoding.quantization.embeddings import DIMS, text_like

from bebr.core.codes import CodeSpec
from bebr.encoding import Bundle, write_bundle
from bebr.encoding.quantization.recurrent_fit import Effort, fit_recurrent
from bebr.encoding.quantization.recurrent_graph import files_of

OLD_DIMS = 48
SPEC, OLD_SPEC = CodeSpec.parse("64x2"), CodeSpec.parse("48x4")
SHORT = Effort(warm=4, full=1)


def two_spaces(rows: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By the new model (rows, DIMS) and by the old one (rows, OLD_DIMS), unit rows; the spaces are always the same."""
    new = text_like(rows, seed)
    space, draw = np.random.default_rng(7), np.random.default_rng(seed + 1000)
    stretched = np.linalg.qr(space.normal(size=(DIMS, DIMS)))[0] * 12 * np.arange(1, DIMS + 1) ** -0.6
    turned = new @ stretched @ np.linalg.qr(space.normal(size=(DIMS, OLD_DIMS)))[0]
    bent = np.tanh(turned) + 0.05 * draw.normal(size=turned.shape)
    return new, (bent / np.linalg.norm(bent, axis=1, keepdims=True)).astype(np.float32)


def vector_bundle(folder: Path, bundle_id: str, rows: NDArray[np.float32], spec: CodeSpec) -> Bundle:
    """A bundle without an embedding model, whose binarizer is fitted to the rows."""
    name, _, version = bundle_id.partition("@")
    files = files_of(fit_recurrent(rows, spec, effort=SHORT))
    return write_bundle(folder, name, version, embedding_dims=rows.shape[1], binarizer=files)
