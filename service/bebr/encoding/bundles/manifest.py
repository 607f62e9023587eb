"""manifest.json of a bundle: its fields, how they are read strictly, and the fingerprint. No file is opened here.

    {
      "format": 1,
      "name": "minilm", "version": "1", "embedding_dims": 384,
      "binarizer": {"graph": "binarizer.onnx", "code": "256x2", "steps": [0.04], "gain": "unbiased"}   or null,
      "embedding": {"graph": "embedding.onnx", "tokenizer": "tokenizer.json", "pooling": "mean",
                    "max_length": 256, "prefixes": {"query": "", "passage": ""}, "precision": "fp32",
                    "source": {"weights": "<sha256>", "tokenizer": "<sha256>", "config": "<sha256>"}, "builder": 1}
                   or null,
      "compatible_with": [{"bundle": "old@1", "fingerprint": "<sha256>", "embedding_dims": 384,
                           "reference": "reference-0.npz",
                           "forward": {"graph": "forward-0.onnx", "default": "weighted", "weight": 0.7,
                                       "scales": {"compatible": 1.3, "adapter": 1.9, "dual": 1.1, "weighted": 1.2}},
                           "backward": {...},
                           "figures": {...}}],            absent where there is none; see `compatibility`
      "files": {"binarizer.onnx": {"sha256": "...", "size_bytes": 403122}, ...},
      "figures": {...},                 measured figures of this bundle, free in form
      "fingerprint": "<sha256>",        names the model: what determines the codes
      "checksum": "<sha256>"            of everything above
    }

The fingerprint must come out the same on every machine, so it covers the hashes of the *source* checkpoint and the
number of the graph builder, and not the bytes of a graph that each machine builds for itself. The binarizer is
shipped as it is, so there its bytes count. How queries reach codes of other bundles changes no code of this one, so it
is no part of the fingerprint: a bundle that learns to reach one more keeps its codes valid.
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
from bebr.encoding.bundles.json_reader import Reader
from bebr.errors import BebrError, DamagedBundle, InvalidOption

FORMAT = 1
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
FILE_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class TextKind(StrEnum):
    """What a text is for; some models want another prefix for each."""

    QUERY = "query"
    PASSAGE = "passage"


class Pooling(StrEnum):
    """How token vectors become one embedding."""

    MEAN = "mean"
    CLS = "cls"


class Precision(StrEnum):
    """Number format of the weights in the embedding graph."""

    FP32 = "fp32"
    INT8 = "int8"


class Gain(StrEnum):
    """What the gain of a code means: see design.md, section Words."""

    UNBIASED = "unbiased"
    COSINE = "cosine"


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
    precision: Precision
    source: SourceHashes
    builder: int
    prefixes: Mapping[TextKind, str] = field(default_factory=lambda: dict.fromkeys(TextKind, ""))


@dataclass(frozen=True)
class EmbeddingEntry:
    """The embedding model of a bundle: two file names and the settings."""

    graph: str
    tokenizer: str
    settings: EmbeddingSettings


@dataclass(frozen=True)
class BinarizerEntry:
    """The binarizer of a bundle. steps: one float32 value per block."""

    graph: str
    spec: CodeSpec
    steps: tuple[float, ...]
    gain: Gain


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


MANIFEST_KINDS = {kind: str(kind) for kind in AdapterKind} | {AdapterKind.LINEAR: "adapter"}
"""The name of each kind in a manifest: `linear` was called `adapter` when the first bundles were written."""


@dataclass(frozen=True)
class AdapterEntry:
    """From the embeddings of one model to those of another."""

    graph: str
    """File with the two learned maps, see `adapters.adapter.OUTPUTS`."""
    scales: Mapping[AdapterKind, float]
    """What a score of each kind is multiplied by, to mean as much as a score of the searching model."""
    default: AdapterKind
    """The kind that measured best."""
    weight: float
    """Share of the linear map in the weighted sum."""


@dataclass(frozen=True)
class CompatibilityEntry:
    """Another bundle whose codes queries of this one may search (forward), and the other kind round (backward).

    reference: a file with what the codes of the same texts stand for in both, see `compatibility`. figures: what was
    measured.
    """

    bundle: str
    fingerprint: str
    embedding_dims: int
    reference: str
    forward: AdapterEntry
    backward: AdapterEntry
    figures: Mapping[str, Any]

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
    """A manifest that was read and checked, or one about to be written."""

    name: str
    version: str
    embedding_dims: int
    binarizer: BinarizerEntry | None
    embedding: EmbeddingEntry | None
    files: Mapping[str, FileEntry]
    figures: Mapping[str, Any]
    compatible_with: tuple[CompatibilityEntry, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

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
        if self.embedding is not None:
            parts["embedding"] = asdict(self.embedding.settings)
        return canonical_sha256(parts)

    def to_json(self) -> str:
        """The text of manifest.json."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "embedding_dims": self.embedding_dims,
            "binarizer": None if self.binarizer is None else _binarizer_json(self.binarizer),
            "embedding": None if self.embedding is None else _embedding_json(self.embedding),
            "files": {name: asdict(entry) for name, entry in sorted(self.files.items())},
            "figures": dict(self.figures),
            "fingerprint": self.fingerprint(),
        }
        if self.compatible_with:
            content["compatible_with"] = [_compatibility_json(entry) for entry in self.compatible_with]
        return json.dumps({**content, "checksum": canonical_sha256(content)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, text: str | bytes) -> "Manifest":
        """Read manifest.json strictly. Raises DamagedBundle, whose detail names the field at fault."""
        try:
            root = Reader(json.loads(text), "manifest.json")
        except (ValueError, UnicodeDecodeError) as error:
            raise DamagedBundle(f"manifest.json is not valid JSON: {error}", file="manifest.json") from error
        if (number := root.take("format", int)) != FORMAT:
            raise root.error(f"format {number} is not known, this release reads format {FORMAT}; upgrade bebr")
        checksum, content = root.take("checksum", str), root.rest()
        try:
            manifest = _parse_manifest(root)
        except DamagedBundle:
            raise
        except BebrError as error:
            raise root.error(error.detail) from error
        if checksum != canonical_sha256({"format": FORMAT, **content}):
            raise root.error("its checksum does not match its content: it was edited or damaged; pull the bundle again")
        if content["fingerprint"] != manifest.fingerprint():
            raise root.error("its fingerprint does not match its content; pull the bundle again")
        return manifest


def check_name(value: str, what: str) -> str:
    """Return a bundle's name or version. Raises InvalidOption unless it is [a-z0-9][a-z0-9._-]*, at most 100 long."""
    if not NAME_PATTERN.fullmatch(value):
        raise InvalidOption(f"{what} {value!r:.120} must match [a-z0-9][a-z0-9._-]* and have at most 100 characters")
    return value


def canonical_sha256(value: object) -> str:
    """SHA-256 (hex) of a JSON value, independent of key order and white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _binarizer_json(entry: BinarizerEntry) -> dict[str, Any]:
    return {"graph": entry.graph, "code": str(entry.spec), "steps": list(entry.steps), "gain": entry.gain}


def _embedding_json(entry: EmbeddingEntry) -> dict[str, Any]:
    return {"graph": entry.graph, "tokenizer": entry.tokenizer, **asdict(entry.settings)}


def _compatibility_json(entry: CompatibilityEntry) -> dict[str, Any]:
    directions = {"forward": _adapter_json(entry.forward), "backward": _adapter_json(entry.backward)}
    return asdict(entry) | directions


def _adapter_json(entry: AdapterEntry) -> dict[str, Any]:
    return {
        "graph": entry.graph,
        "scales": {MANIFEST_KINDS[kind]: scale for kind, scale in entry.scales.items()},
        "default": MANIFEST_KINDS[entry.default],
        "weight": entry.weight,
    }


def _parse_manifest(root: Reader) -> Manifest:
    manifest = Manifest(
        name=root.match("name", NAME_PATTERN),
        version=root.match("version", NAME_PATTERN),
        embedding_dims=root.count("embedding_dims"),
        binarizer=root.optional("binarizer", _parse_binarizer),
        embedding=root.optional("embedding", _parse_embedding),
        files=_parse_files(root),
        figures=root.take("figures", dict),
        compatible_with=root.list_of("compatible_with", _parse_compatibility),
    )
    root.match("fingerprint", SHA256_PATTERN)
    root.done()
    named = set()
    if manifest.binarizer is not None:
        named |= {manifest.binarizer.graph}
    if manifest.embedding is not None:
        named |= {manifest.embedding.graph, manifest.embedding.tokenizer}
    for entry in manifest.compatible_with:
        named |= entry.files
    if named != set(manifest.files):
        raise root.error(f"field 'files' lists {sorted(manifest.files)}, but the bundle uses {sorted(named)}")
    return manifest


def _parse_binarizer(reader: Reader) -> BinarizerEntry:
    graph = reader.match("graph", FILE_PATTERN)
    spec = CodeSpec.parse(reader.take("code", str))
    steps = reader.take("steps", list)
    if len(steps) != len(spec.blocks) or not all(isinstance(step, float) and 0 < step < 1e6 for step in steps):
        raise reader.error(f"field 'steps' must be one positive number for each of the {len(spec.blocks)} blocks")
    return BinarizerEntry(graph, spec, tuple(steps), reader.enum("gain", Gain))


def _parse_embedding(reader: Reader) -> EmbeddingEntry:
    graph, tokenizer = reader.match("graph", FILE_PATTERN), reader.match("tokenizer", FILE_PATTERN)
    prefixes, source = reader.reader("prefixes"), reader.reader("source")
    settings = EmbeddingSettings(
        pooling=reader.enum("pooling", Pooling),
        max_length=reader.count("max_length"),
        precision=reader.enum("precision", Precision),
        source=SourceHashes(**{key: source.match(key, SHA256_PATTERN) for key in SourceHashes.__dataclass_fields__}),
        builder=reader.count("builder"),
        prefixes={kind: prefixes.take(kind, str) for kind in TextKind},
    )
    prefixes.done()
    source.done()
    return EmbeddingEntry(graph, tokenizer, settings)


def _parse_compatibility(reader: Reader) -> CompatibilityEntry:
    return CompatibilityEntry(
        bundle=reader.take("bundle", str),
        fingerprint=reader.match("fingerprint", SHA256_PATTERN),
        embedding_dims=reader.count("embedding_dims"),
        reference=reader.match("reference", FILE_PATTERN),
        forward=reader.object("forward", _parse_adapter),
        backward=reader.object("backward", _parse_adapter),
        figures=reader.take("figures", dict),
    )


def _parse_adapter(reader: Reader) -> AdapterEntry:
    scales = reader.reader("scales")
    weight = reader.number("weight")
    if weight > 1:
        raise reader.error(f"field 'weight' must be at most 1, got {weight}")
    entry = AdapterEntry(
        graph=reader.match("graph", FILE_PATTERN),
        scales={kind: scales.number(name) for kind, name in MANIFEST_KINDS.items()},
        default=reader.one_of("default", {name: kind for kind, name in MANIFEST_KINDS.items()}),
        weight=weight,
    )
    scales.done()
    return entry


def _parse_files(root: Reader) -> dict[str, FileEntry]:
    reader = root.reader("files")
    files = {}
    for name in reader.rest():
        if not FILE_PATTERN.fullmatch(name):
            raise reader.error(f"file name {name!r:.80} must match {FILE_PATTERN.pattern}")
        entry = reader.reader(name)
        files[name] = FileEntry(entry.match("sha256", SHA256_PATTERN), entry.count("size_bytes"))
        entry.done()
    return files
