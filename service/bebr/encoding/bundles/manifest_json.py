"""manifest.json: written from a `Manifest`, and read back strictly. No file is opened here.

    {
      "format": 1,
      "name": "minilm", "version": "1", "embedding_dims": 384,
      "binarizer": {"graph": "binarizer.onnx", "code": "256x2", "steps": [0.04], "gain": "unbiased"}   or null;
                    with a rescore code: "code": "256x2/384x2+256x1", and "rescore": "rescore.onnx",
      "embedding": {"graph": "embedding.onnx", "tokenizer": "tokenizer.json", "pooling": "mean",
                    "max_length": 256, "prefixes": {"query": "", "passage": ""}, "precision": "fp32",
                    "source": {"weights": "<sha256>", "tokenizer": "<sha256>", "config": "<sha256>"}, "builder": 1}
                   or null; "weights": "embedding.data" and "alone": true where they apply,
      "compatible_with": [{"bundle": "old@1", "fingerprint": "<sha256>", "embedding_dims": 384,
                           "reference": "reference-0.npz",
                           "forward": {"graph": "forward-0.onnx", "default": "weighted", "weight": 0.7,
                                       "scales": {"compatible": 1.3, "adapter": 1.9, "dual": 1.1, "weighted": 1.2}},
                           "backward": {...},
                           "figures": {...}}],            absent where there is none
      "files": {"binarizer.onnx": {"sha256": "...", "size_bytes": 403122}, ...},
      "figures": {...},
      "fingerprint": "<sha256>",
      "checksum": "<sha256>"            of everything above
    }

What each field means is said in `manifest`.
"""

import json
import re
from dataclasses import asdict
from typing import Any

from bebr.core.codes import CodeSpec
from bebr.encoding.bundles.json_reader import Reader
from bebr.encoding.bundles.manifest import (
    NAME_PATTERN,
    AdapterEntry,
    AdapterKind,
    BinarizerEntry,
    CompatibilityEntry,
    EmbeddingEntry,
    EmbeddingSettings,
    FileEntry,
    Gain,
    Manifest,
    Pooling,
    Precision,
    SourceHashes,
    TextKind,
    canonical_sha256,
)
from bebr.errors import BebrError, DamagedBundle

MANIFEST = "manifest.json"
FORMAT = 1
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
FILE_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
KIND_NAMES = {kind: str(kind) for kind in AdapterKind} | {AdapterKind.LINEAR: "adapter"}
"""The name of each kind of adapter in the file: `linear` was called `adapter` when the first bundles were written."""


def write_manifest(manifest: Manifest) -> str:
    """The text of manifest.json."""
    binarizer, embedding = manifest.binarizer, manifest.embedding
    content: dict[str, Any] = {
        "format": FORMAT,
        "name": manifest.name,
        "version": manifest.version,
        "embedding_dims": manifest.embedding_dims,
        "binarizer": None if binarizer is None else _binarizer_json(binarizer),
        "embedding": None if embedding is None else _embedding_json(embedding),
        "files": {name: asdict(entry) for name, entry in sorted(manifest.files.items())},
        "figures": dict(manifest.figures),
        "fingerprint": manifest.fingerprint(),
    }
    if manifest.compatible_with:
        content["compatible_with"] = [_compatibility_json(entry) for entry in manifest.compatible_with]
    return json.dumps({**content, "checksum": canonical_sha256(content)}, indent=2, ensure_ascii=False) + "\n"


def read_manifest(text: str | bytes) -> Manifest:
    """Read manifest.json strictly. Raises DamagedBundle, whose detail names the field at fault."""
    try:
        return _read_json(json.loads(text))
    except RecursionError as error:
        raise DamagedBundle(f"{MANIFEST} is not valid JSON: it is nested too deeply", file=MANIFEST) from error
    except ValueError as error:
        raise DamagedBundle(f"{MANIFEST} is not valid JSON: {error}", file=MANIFEST) from error


def _read_json(value: object) -> Manifest:
    root = Reader(value, MANIFEST)
    if (number := root.take("format", int)) != FORMAT:
        raise root.error(f"format {number} is not known, this release reads format {FORMAT}; upgrade bebr")
    checksum, content = root.take("checksum", str), root.rest()
    try:
        manifest = _read_root(root)
    except DamagedBundle:
        raise
    except BebrError as error:
        raise root.error(error.detail) from error
    if checksum != canonical_sha256({"format": FORMAT, **content}):
        raise root.error("its checksum does not match its content: it was edited or damaged; pull the bundle again")
    if content["fingerprint"] != manifest.fingerprint():
        raise root.error("its fingerprint does not match its content; pull the bundle again")
    return manifest


def _binarizer_json(entry: BinarizerEntry) -> dict[str, Any]:
    written = {"graph": entry.graph, "code": str(entry.spec), "steps": list(entry.steps), "gain": entry.gain}
    return written if entry.rescore is None else {**written, "rescore": entry.rescore}


def _embedding_json(entry: EmbeddingEntry) -> dict[str, Any]:
    weights = {} if entry.weights is None else {"weights": entry.weights}
    return {"graph": entry.graph, "tokenizer": entry.tokenizer, **weights, **entry.settings.facts()}


def _compatibility_json(entry: CompatibilityEntry) -> dict[str, Any]:
    directions = {"forward": _adapter_json(entry.forward), "backward": _adapter_json(entry.backward)}
    return asdict(entry) | directions


def _adapter_json(entry: AdapterEntry) -> dict[str, Any]:
    return {
        "graph": entry.graph,
        "scales": {KIND_NAMES[kind]: scale for kind, scale in entry.scales.items()},
        "default": KIND_NAMES[entry.default],
        "weight": entry.weight,
    }


def _read_root(root: Reader) -> Manifest:
    manifest = Manifest(
        name=root.match("name", NAME_PATTERN),
        version=root.match("version", NAME_PATTERN),
        embedding_dims=root.count("embedding_dims"),
        binarizer=root.optional("binarizer", _read_binarizer),
        embedding=root.optional("embedding", _read_embedding),
        files=_read_files(root),
        figures=root.take("figures", dict),
        compatible_with=root.list_of("compatible_with", _read_compatibility),
    )
    root.match("fingerprint", SHA256_PATTERN)
    root.done()
    if manifest.used_files != set(manifest.files):
        used = sorted(manifest.used_files)
        raise root.error(f"field 'files' lists {sorted(manifest.files)}, but the bundle uses {used}")
    return manifest


def _read_binarizer(reader: Reader) -> BinarizerEntry:
    graph = reader.match("graph", FILE_PATTERN)
    spec = CodeSpec.parse(reader.take("code", str))
    steps = reader.take("steps", list)
    if len(steps) != len(spec.blocks) or not all(isinstance(step, float) and 0 < step < 1e6 for step in steps):
        raise reader.error(f"field 'steps' must be one positive number for each of the {len(spec.blocks)} blocks")
    rescore = reader.match("rescore", FILE_PATTERN) if spec.rescore is not None else None
    return BinarizerEntry(graph, spec, tuple(steps), reader.enum("gain", Gain), rescore)


def _read_embedding(reader: Reader) -> EmbeddingEntry:
    graph, tokenizer = reader.match("graph", FILE_PATTERN), reader.match("tokenizer", FILE_PATTERN)
    prefixes, source = reader.reader("prefixes"), reader.reader("source")
    settings = EmbeddingSettings(
        pooling=reader.enum("pooling", Pooling),
        max_length=reader.count("max_length"),
        precision=reader.enum("precision", Precision),
        source=SourceHashes(**{key: source.match(key, SHA256_PATTERN) for key in SourceHashes.__dataclass_fields__}),
        builder=reader.count("builder"),
        prefixes={kind: prefixes.take(kind, str) for kind in TextKind},
        alone=reader.has("alone") and reader.take("alone", bool),
    )
    prefixes.done()
    source.done()
    weights = reader.match("weights", FILE_PATTERN) if reader.has("weights") else None
    return EmbeddingEntry(graph, tokenizer, settings, weights)


def _read_compatibility(reader: Reader) -> CompatibilityEntry:
    return CompatibilityEntry(
        bundle=reader.take("bundle", str),
        fingerprint=reader.match("fingerprint", SHA256_PATTERN),
        embedding_dims=reader.count("embedding_dims"),
        reference=reader.match("reference", FILE_PATTERN),
        forward=reader.object("forward", _read_adapter),
        backward=reader.object("backward", _read_adapter),
        figures=reader.take("figures", dict),
    )


def _read_adapter(reader: Reader) -> AdapterEntry:
    scales = reader.reader("scales")
    weight = reader.number("weight")
    if weight > 1:
        raise reader.error(f"field 'weight' must be at most 1, got {weight}")
    entry = AdapterEntry(
        graph=reader.match("graph", FILE_PATTERN),
        scales={kind: scales.number(name) for kind, name in KIND_NAMES.items()},
        default=reader.one_of("default", {name: kind for kind, name in KIND_NAMES.items()}),
        weight=weight,
    )
    scales.done()
    return entry


def _read_files(root: Reader) -> dict[str, FileEntry]:
    reader = root.reader("files")
    files = {}
    for name in reader.rest():
        if not FILE_PATTERN.fullmatch(name):
            raise reader.error(f"file name {name!r:.80} must match {FILE_PATTERN.pattern}")
        entry = reader.reader(name)
        files[name] = FileEntry(entry.match("sha256", SHA256_PATTERN), entry.count("size_bytes"))
        entry.done()
    return files
