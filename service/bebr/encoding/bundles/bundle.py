"""A bundle on disk: a folder with manifest.json, graphs and tokenizer. Read, verified and written here.

This module opens files and checks bytes; it never runs a graph. What the manifest says is in `manifest.py`.
"""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.disk import write_folder
from bebr.encoding.bundles.manifest import (
    AdapterEntry,
    AdapterKind,
    BinarizerEntry,
    CompatibilityEntry,
    EmbeddingEntry,
    EmbeddingSettings,
    FileEntry,
    Gain,
    Manifest,
    check_name,
)
from bebr.errors import (
    AlreadyExists,
    BebrError,
    BundleNotFound,
    DamagedBundle,
    InsufficientStorage,
    InvalidOption,
    Unavailable,
)

MANIFEST = "manifest.json"
BINARIZER_GRAPH = "binarizer.onnx"
EMBEDDING_GRAPH = "embedding.onnx"
TOKENIZER = "tokenizer.json"
FORWARD_GRAPH, BACKWARD_GRAPH, REFERENCE = "forward-{}.onnx", "backward-{}.onnx", "reference-{}.npz"
"""Files of a compatibility; the number is its place in the manifest."""


@dataclass(frozen=True)
class BinarizerFiles:
    """A binarizer to be written into a bundle. graph: bytes of the ONNX file; steps (blocks,) float32."""

    graph: bytes
    spec: CodeSpec
    steps: NDArray[np.float32]
    gain: Gain = Gain.UNBIASED


@dataclass(frozen=True)
class EmbeddingFiles:
    """An embedding model to be written into a bundle: bytes of the ONNX graph and of tokenizer.json."""

    graph: bytes
    tokenizer: bytes
    settings: EmbeddingSettings


@dataclass(frozen=True)
class AdapterFiles:
    """One direction of a compatibility: bytes of the ONNX graph, and its settings as in `AdapterEntry`."""

    graph: bytes
    scales: Mapping[AdapterKind, float]
    default: AdapterKind
    weight: float


@dataclass(frozen=True)
class CompatibilityFiles:
    """How queries reach the codes of another bundle, named by id and fingerprint, and back; `reference`: bytes."""

    bundle: str
    fingerprint: str
    embedding_dims: int
    forward: AdapterFiles
    backward: AdapterFiles
    reference: bytes
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was checked. Immutable; holds no bytes of its files."""

    path: Path
    manifest: Manifest
    fingerprint: str

    @classmethod
    def load(cls, path: Path, *, verify: bool = True) -> "Bundle":
        """Read the manifest and check every file: its size always, its SHA-256 unless `verify` is off.

        Raises BundleNotFound where there is no manifest, DamagedBundle naming the file at fault.
        """
        try:
            text = (path / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise BundleNotFound(f"no bundle at {path}: it has no {MANIFEST}", path=str(path)) from None
        try:
            manifest = Manifest.parse(text)
        except DamagedBundle as error:
            raise DamagedBundle(f"bundle at {path}: {error.detail}", path=str(path), file=MANIFEST) from error
        for name, entry in manifest.files.items():
            _check_file(manifest.id, path / name, entry, verify)
        return cls(path, manifest, manifest.fingerprint())

    @property
    def id(self) -> str:
        """`name@version`."""
        return self.manifest.id

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def embedding_dims(self) -> int:
        return self.manifest.embedding_dims

    @property
    def figures(self) -> Mapping[str, Any]:
        """Figures measured when the bundle was made."""
        return self.manifest.figures

    @property
    def has_binarizer(self) -> bool:
        return self.manifest.binarizer is not None

    @property
    def has_embedding_model(self) -> bool:
        return self.manifest.embedding is not None

    @property
    def binarizer(self) -> BinarizerEntry:
        """Raises InvalidOption where the bundle has none."""
        if self.manifest.binarizer is None:
            raise no_binarizer(self.manifest)
        return self.manifest.binarizer

    @property
    def embedding(self) -> EmbeddingEntry:
        """Raises InvalidOption where the bundle has none."""
        if self.manifest.embedding is None:
            raise no_embedding_model(self.manifest)
        return self.manifest.embedding

    @property
    def spec(self) -> CodeSpec:
        return self.binarizer.spec

    @cached_property
    def steps(self) -> NDArray[np.float32]:
        """(blocks,) float32, read-only."""
        steps = np.asarray(self.binarizer.steps, np.float32)
        steps.flags.writeable = False
        return steps

    @property
    def gain(self) -> Gain:
        return self.binarizer.gain

    def describe(self) -> dict[str, Any]:
        """The entry of this bundle in GET /v1/bundles."""
        binarizer = self.manifest.binarizer
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "code": str(binarizer.spec) if binarizer else None,
            "code_bytes": binarizer.spec.code_size_bytes if binarizer else None,
            "embedding_dims": self.embedding_dims,
            "text": self.has_embedding_model,
            "fingerprint": self.fingerprint,
            "compatible_with": [entry.bundle for entry in self.manifest.compatible_with],
        }

    def read_binarizer(self) -> BinarizerFiles | None:
        """The binarizer's bytes and settings, to be written into another bundle; None where there is none."""
        if (entry := self.manifest.binarizer) is None:
            return None
        return BinarizerFiles((self.path / entry.graph).read_bytes(), entry.spec, self.steps, entry.gain)

    def read_embedding(self) -> EmbeddingFiles | None:
        """The embedding model's bytes and settings, to be written into another bundle; None where there is none."""
        if (entry := self.manifest.embedding) is None:
            return None
        graph, tokenizer = (self.path / entry.graph).read_bytes(), (self.path / entry.tokenizer).read_bytes()
        return EmbeddingFiles(graph, tokenizer, entry.settings)

    def read_compatibilities(self) -> list[CompatibilityFiles]:
        """All bytes and settings, to be written into another bundle."""

        def adapter(entry: AdapterEntry) -> AdapterFiles:
            return AdapterFiles((self.path / entry.graph).read_bytes(), entry.scales, entry.default, entry.weight)

        return [
            CompatibilityFiles(
                entry.bundle,
                entry.fingerprint,
                entry.embedding_dims,
                adapter(entry.forward),
                adapter(entry.backward),
                (self.path / entry.reference).read_bytes(),
                entry.figures,
            )
            for entry in self.manifest.compatible_with
        ]


def no_binarizer(manifest: Manifest) -> InvalidOption:
    """The error for an option that needs the binarizer that a bundle lacks."""
    return InvalidOption(f"bundle '{manifest.id}' has no binarizer; make one from embeddings with 'bebr fit'")


def no_embedding_model(manifest: Manifest) -> InvalidOption:
    """The error for an option that needs the embedding model that a bundle lacks."""
    return InvalidOption(
        f"bundle '{manifest.id}' has no embedding model, so it takes vectors and no texts; "
        f"add one with 'bebr models pull {manifest.name}'"
    )


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
    """Write the bundle `folder/<name>@<version>`, whole or not at all: temporary folder, fsync, rename.

    Raises InvalidOption on a bad name or when there is neither binarizer nor embedding model, AlreadyExists when the
    bundle is there and `replace` is off, InsufficientStorage or Unavailable when the folder cannot be written.
    """
    check_name(name, "bundle name")
    check_name(version, "bundle version")
    if binarizer is None and embedding is None:
        raise InvalidOption("a bundle needs a binarizer, an embedding model, or both")
    target = folder / f"{name}@{version}"
    if target.exists() and not replace:
        raise AlreadyExists(f"bundle '{target.name}' is there already: {target}", id=target.name)
    contents: dict[str, bytes] = {}
    binarizer_entry, embedding_entry = None, None
    if binarizer is not None:
        contents[BINARIZER_GRAPH] = binarizer.graph
        steps = tuple(np.asarray(binarizer.steps, np.float32).tolist())
        binarizer_entry = BinarizerEntry(BINARIZER_GRAPH, binarizer.spec, steps, binarizer.gain)
    if embedding is not None:
        contents |= {EMBEDDING_GRAPH: embedding.graph, TOKENIZER: embedding.tokenizer}
        embedding_entry = EmbeddingEntry(EMBEDDING_GRAPH, TOKENIZER, embedding.settings)
    reached = []
    for number, compatibility in enumerate(compatible_with):
        entry, its_files = _compatibility_entry(compatibility, number)
        reached.append(entry)
        contents |= its_files
    files = {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in contents.items()}
    entries = binarizer_entry, embedding_entry
    manifest = Manifest(name, version, embedding_dims, *entries, files, dict(figures or {}), tuple(reached))
    text = manifest.to_json()
    Manifest.parse(text)  # What cannot be read back must not be written.
    try:
        write_folder(target, {**contents, MANIFEST: text.encode()}, replace=replace)
    except OSError as error:
        raise _write_error(target, error) from error
    return Bundle.load(target)


def _compatibility_entry(files: CompatibilityFiles, number: int) -> tuple[CompatibilityEntry, dict[str, bytes]]:
    names = [name.format(number) for name in (FORWARD_GRAPH, BACKWARD_GRAPH, REFERENCE)]
    forward, backward = (
        AdapterEntry(name, dict(adapter.scales), adapter.default, adapter.weight)
        for name, adapter in zip(names, (files.forward, files.backward), strict=False)
    )
    whose = files.bundle, files.fingerprint, files.embedding_dims
    entry = CompatibilityEntry(*whose, names[2], forward, backward, dict(files.figures))
    return entry, dict(zip(names, (files.forward.graph, files.backward.graph, files.reference), strict=True))


def _write_error(target: Path, error: OSError) -> BebrError:
    if error.errno == errno.ENOSPC:
        return InsufficientStorage(f"no space left to write bundle '{target.name}' to {target.parent}")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.is_dir():
        return AlreadyExists(f"bundle '{target.name}' was written by someone else meanwhile: {target}", id=target.name)
    return Unavailable(f"bundle '{target.name}' cannot be written to {target.parent}: {error.strerror}")


def _check_file(bundle_id: str, path: Path, entry: FileEntry, verify: bool) -> None:
    def damaged(message: str) -> DamagedBundle:
        return DamagedBundle(
            f"bundle '{bundle_id}': file {path.name} {message}; pull the bundle again", path=str(path), file=path.name
        )

    try:
        size_bytes = path.stat().st_size
        if size_bytes != entry.size_bytes:
            raise damaged(f"has {size_bytes} bytes, expected {entry.size_bytes}")
        if not verify:
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise damaged("is missing") from None
    except OSError as error:
        raise damaged(f"cannot be read: {error.strerror}") from error
    if digest != entry.sha256:
        raise damaged(f"has SHA-256 {digest[:16]}..., expected {entry.sha256[:16]}...")
