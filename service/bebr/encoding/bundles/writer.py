"""Writes a bundle: names its files, makes its manifest, and puts the folder there whole or not at all."""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bebr.disk import write_folder
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.bundles.contents import AdapterFiles, BinarizerFiles, CompatibilityFiles, EmbeddingFiles
from bebr.encoding.bundles.manifest import (
    AdapterEntry,
    BinarizerEntry,
    CompatibilityEntry,
    EmbeddingEntry,
    FileEntry,
    Manifest,
    check_name,
)
from bebr.encoding.bundles.manifest_json import MANIFEST, read_manifest, write_manifest
from bebr.errors import AlreadyExists, BebrError, InsufficientStorage, InvalidOption, Unavailable

BINARIZER_GRAPH, RESCORE_GRAPH = "binarizer.onnx", "rescore.onnx"
EMBEDDING_GRAPH, EMBEDDING_WEIGHTS = "embedding.onnx", "embedding.data"
TOKENIZER = "tokenizer.json"
FORWARD_GRAPH, BACKWARD_GRAPH, REFERENCE = "forward-{}.onnx", "backward-{}.onnx", "reference-{}.npz"
"""Files of a compatibility; the number is its place in the manifest."""


def write_bundle(
    folder: Path,
    name: str,
    version: str,
    *,
    embedding_dims: int,
    binarizer: BinarizerFiles | None = None,
    embedding: EmbeddingFiles | None = None,
    figures: Mapping[str, Any] | None = None,
    compatible_with: Sequence[CompatibilityFiles] = (),
    replace: bool = False,
) -> Bundle:
    """Write the bundle `folder/<name>@<version>`, whole or not at all.

    Raises InvalidOption on a bad name or when there is neither binarizer nor embedding model, AlreadyExists when the
    bundle is there and `replace` is off, InsufficientStorage or Unavailable when the folder cannot be written.
    """
    if binarizer is None and embedding is None:
        raise InvalidOption("a bundle needs a binarizer, an embedding model, or both")
    target = _target(folder, name, version, replace)
    files = _Files()
    manifest = Manifest(
        name=name,
        version=version,
        embedding_dims=embedding_dims,
        binarizer=None if binarizer is None else files.add_binarizer(binarizer),
        embedding=None if embedding is None else files.add_embedding(embedding),
        compatible_with=tuple(files.add_compatibility(one, number) for number, one in enumerate(compatible_with)),
        files=files.entries(),
        figures=dict(figures or {}),
    )
    text = write_manifest(manifest)
    read_manifest(text)  # What cannot be read back must not be written.
    try:
        write_folder(target, {**files.contents, MANIFEST: text.encode()}, replace=replace)
    except OSError as error:
        raise _write_error(target, error) from error
    return Bundle.load(target)


def _target(folder: Path, name: str, version: str, replace: bool) -> Path:
    """The folder of the bundle. Raises InvalidOption on a bad name, AlreadyExists where it may not be replaced."""
    target = folder / f"{check_name(name, 'bundle name')}@{check_name(version, 'bundle version')}"
    if target.exists() and not replace:
        raise AlreadyExists(f"bundle '{target.name}' exists already: {target}", id=target.name)
    return target


@dataclass
class _Files:
    """The files of a bundle that is being written, by name."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def add_binarizer(self, files: BinarizerFiles) -> BinarizerEntry:
        self.contents[BINARIZER_GRAPH] = files.graph
        steps = tuple(np.asarray(files.steps, np.float32).tolist())
        if files.rescore is not None:
            self.contents[RESCORE_GRAPH] = files.rescore
        rescore = None if files.rescore is None else RESCORE_GRAPH
        return BinarizerEntry(BINARIZER_GRAPH, files.spec, steps, files.gain, rescore)

    def add_embedding(self, files: EmbeddingFiles) -> EmbeddingEntry:
        self.contents |= {EMBEDDING_GRAPH: files.graph, TOKENIZER: files.tokenizer}
        if files.weights is not None:
            self.contents[EMBEDDING_WEIGHTS] = files.weights
        weights = None if files.weights is None else EMBEDDING_WEIGHTS
        return EmbeddingEntry(EMBEDDING_GRAPH, TOKENIZER, files.settings, weights)

    def add_compatibility(self, files: CompatibilityFiles, number: int) -> CompatibilityEntry:
        reference = REFERENCE.format(number)
        self.contents[reference] = files.reference
        return CompatibilityEntry(
            bundle=files.bundle,
            fingerprint=files.fingerprint,
            embedding_dims=files.embedding_dims,
            reference=reference,
            forward=self._add_adapter(files.forward, FORWARD_GRAPH.format(number)),
            backward=self._add_adapter(files.backward, BACKWARD_GRAPH.format(number)),
            figures=dict(files.figures),
        )

    def _add_adapter(self, files: AdapterFiles, name: str) -> AdapterEntry:
        self.contents[name] = files.graph
        return AdapterEntry(name, dict(files.scales), files.default, files.weight)

    def entries(self) -> dict[str, FileEntry]:
        return {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in self.contents.items()}


def _write_error(target: Path, error: OSError) -> BebrError:
    if error.errno == errno.ENOSPC:
        return InsufficientStorage(f"no space left to write bundle '{target.name}' to {target.parent}")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.is_dir():
        return AlreadyExists(f"bundle '{target.name}' was written by someone else meanwhile: {target}", id=target.name)
    return Unavailable(f"bundle '{target.name}' cannot be written to {target.parent}: {error.strerror}")
