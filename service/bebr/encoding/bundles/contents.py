"""What is written into a bundle, and read out of one to be written into another: bytes of files and their settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding.bundles.manifest import AdapterKind, EmbeddingSettings, Gain


@dataclass(frozen=True)
class BinarizerFiles:
    """A binarizer."""

    graph: bytes
    """Content of the ONNX file."""
    spec: CodeSpec
    steps: NDArray[np.float32]
    """(blocks,) float32: value = step * grid value."""
    gain: Gain = Gain.UNBIASED
    rescore: bytes | None = None
    """Content of the ONNX file that makes the rescore code, where the spec has one."""


@dataclass(frozen=True)
class EmbeddingFiles:
    """An embedding model."""

    graph: bytes
    """Content of the ONNX file."""
    tokenizer: bytes
    """Content of tokenizer.json."""
    settings: EmbeddingSettings
    weights: bytes | None = None
    """Content of the file with the graph's weights, where they are too many for its own."""


@dataclass(frozen=True)
class AdapterFiles:
    """One direction of a compatibility: the content of its ONNX file, and its settings as in `AdapterEntry`."""

    graph: bytes
    scales: Mapping[AdapterKind, float]
    default: AdapterKind
    weight: float


@dataclass(frozen=True)
class CompatibilityFiles:
    """How queries reach the codes of another bundle, and back; the fields are those of `CompatibilityEntry`."""

    bundle: str
    fingerprint: str
    embedding_dims: int
    forward: AdapterFiles
    backward: AdapterFiles
    reference: bytes
    """Content of the reference file."""
    figures: Mapping[str, Any]
