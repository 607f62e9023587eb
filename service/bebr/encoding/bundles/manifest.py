"""What a bundle says about itself: its names, its two models, its files, and the fingerprint. No file is opened here.

`manifest_json` writes this as manifest.json and reads it back.

The fingerprint names the model: it covers all that determines the codes. It must come out the same on every machine, so
of the embedding model it covers the hashes of the *source* checkpoint and the number of the graph builder, and not the
bytes of a graph that each machine builds for itself. The binarizer is shipped as it is, so there its bytes count. How
queries reach the codes of other bundles changes no code of this one, so adapters are no part of the fingerprint: a
bundle that gets one more keeps its codes valid.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from bebr.core.codes import CodeSpec
from bebr.errors import InvalidOption

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class TextKind(StrEnum):
    """What a text is for; some models want another prefix for each."""

    QUERY = "query"
    PASSAGE = "passage"


class Pooling(StrEnum):
    """How token vectors become one embedding."""

    MEAN = "mean"
    CLS = "cls"
    """The first token."""
    MAX = "max"
    """The largest of each dimension."""
    LAST = "last"
    """The last token."""
    WEIGHTED_MEAN = "weighted-mean"
    """The mean, weighted by place: 1, 2, 3, ..."""
    GRAPH = "graph"
    """The graph of the model does it."""


class Precision(StrEnum):
    """Number format of the weights in the embedding graph."""

    FP32 = "fp32"
    INT8 = "int8"
    FP16 = "fp16"
    UINT8 = "uint8"
    Q4 = "q4"
    """4 bits, in blocks."""
    Q4F16 = "q4f16"
    """The same, with the rest of the graph in float16."""


class Gain(StrEnum):
    """How a binarizer sets the gain of a code, its norm factor (README.md#words)."""

    UNBIASED = "unbiased"
    """So that scores neither over- nor underestimate the cosine, whatever the code misses."""
    COSINE = "cosine"
    """So that what the code represents is as long as the embedding, or shorter where the code is far from it."""


@dataclass(frozen=True)
class SourceHashes:
    """SHA-256 (hex) of what an embedding model was built from."""

    weights: str
    tokenizer: str
    config: str


@dataclass(frozen=True)
class EmbeddingSettings:
    """How texts become embeddings: everything about the embedding model that is not bytes of a file.

    Embeddings are always normalized, so that is no setting.
    """

    pooling: Pooling
    max_length: int
    """Tokens that are kept of a text, special ones included."""
    precision: Precision
    source: SourceHashes
    builder: int
    """Number of the code that built the graph; it changes when the same checkpoint would give other embeddings."""
    prefixes: Mapping[TextKind, str] = field(default_factory=lambda: dict.fromkeys(TextKind, ""))
    """What is put before a text of each kind."""
    alone: bool = False
    """Whether each text is embedded by itself, as the graph rounds by the largest number of the whole batch."""

    def facts(self) -> dict[str, Any]:
        """All fields, without those that older releases did not know and that say nothing."""
        fields = asdict(self)
        return fields if self.alone else {key: value for key, value in fields.items() if key != "alone"}


@dataclass(frozen=True)
class EmbeddingEntry:
    """The embedding model of a bundle."""

    graph: str
    """Name of the ONNX file."""
    tokenizer: str
    """Name of the tokenizer's file."""
    settings: EmbeddingSettings
    weights: str | None = None
    """Name of the file with the graph's weights, where they are too many for its own."""


@dataclass(frozen=True)
class BinarizerEntry:
    """The binarizer of a bundle."""

    graph: str
    """Name of the ONNX file."""
    spec: CodeSpec
    steps: tuple[float, ...]
    """One float32 value for each block: value = step * grid value."""
    gain: Gain
    rescore: str | None = None
    """Name of the ONNX file that makes the rescore code, where the spec has one."""


class AdapterKind(StrEnum):
    """How a query of one embedding model becomes an embedding of another, to search the codes made from that."""

    COMPATIBLE = "compatible"
    """An orthonormal map, the basis of BT^2."""
    LINEAR = "linear"
    """A learned linear map, with or without a small perceptron beside it."""
    DUAL = "dual"
    """The other model embeds the text too."""
    WEIGHTED = "weighted"
    """A weighted sum of linear and dual."""

    @property
    def needs_text(self) -> bool:
        return self in (AdapterKind.DUAL, AdapterKind.WEIGHTED)


@dataclass(frozen=True)
class AdapterEntry:
    """From the embeddings of one model to those of another."""

    graph: str
    """Name of the file with the two learned maps, see `adapters.adapter.OUTPUTS`."""
    scales: Mapping[AdapterKind, float]
    """What a score of each kind is multiplied by, to mean as much as a score of the searching model."""
    default: AdapterKind
    """The kind that measured best."""
    weight: float
    """Share of the linear map in the weighted sum."""


@dataclass(frozen=True)
class CompatibilityEntry:
    """Another bundle whose codes queries of this one can search, and whose queries can search the codes of this one."""

    bundle: str
    """Id of the other bundle."""
    fingerprint: str
    """Fingerprint of the other bundle: the adapters are for that model and no other."""
    embedding_dims: int
    """Dims of the other model's embeddings."""
    reference: str
    """Name of the file with what the codes of the same texts represent in both models, see `adapters.adapter`."""
    forward: AdapterEntry
    """From this model's embeddings to the other's."""
    backward: AdapterEntry
    """From the other model's embeddings to this one's."""
    figures: Mapping[str, Any]
    """What was measured when the adapters were made."""

    @property
    def files(self) -> set[str]:
        return {self.reference, self.forward.graph, self.backward.graph}


@dataclass(frozen=True)
class FileEntry:
    """What a file of the bundle must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """All that manifest.json says, checked, or about to be written."""

    name: str
    version: str
    embedding_dims: int
    binarizer: BinarizerEntry | None
    embedding: EmbeddingEntry | None
    files: Mapping[str, FileEntry]
    """Every file of the bundle but manifest.json, by name."""
    figures: Mapping[str, Any]
    """What was measured when the bundle was made, free in form."""
    compatible_with: tuple[CompatibilityEntry, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def used_files(self) -> set[str]:
        """The names of the files that the two models and the adapters need."""
        names = set() if self.binarizer is None else {self.binarizer.graph}
        if self.binarizer is not None and self.binarizer.rescore is not None:
            names.add(self.binarizer.rescore)
        if self.embedding is not None:
            names |= {self.embedding.graph, self.embedding.tokenizer}
            names |= set() if self.embedding.weights is None else {self.embedding.weights}
        return names.union(*(entry.files for entry in self.compatible_with))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over what determines the codes of this bundle."""
        parts: dict[str, Any] = {"embedding_dims": self.embedding_dims}
        if self.binarizer is not None:
            parts["binarizer"] = {
                "graph": self.files[self.binarizer.graph].sha256,
                "code": str(self.binarizer.spec),
                "steps": np.asarray(self.binarizer.steps, "<f4").tobytes().hex(),
                "gain": self.binarizer.gain,
            }
            if self.binarizer.rescore is not None:
                parts["binarizer"]["rescore"] = self.files[self.binarizer.rescore].sha256
        if self.embedding is not None:
            parts["embedding"] = self.embedding.settings.facts()
        return canonical_sha256(parts)


def check_name(value: str, what: str) -> str:
    """Return a bundle's name or version. Raises InvalidOption unless it is [a-z0-9][a-z0-9._-]*, at most 100 long."""
    if not NAME_PATTERN.fullmatch(value):
        raise InvalidOption(f"{what} {value!r:.120} must match [a-z0-9][a-z0-9._-]* and have at most 100 characters")
    return value


def canonical_sha256(value: object) -> str:
    """SHA-256 (hex) of a JSON value, independent of key order and white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
