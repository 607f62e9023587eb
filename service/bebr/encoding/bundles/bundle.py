"""A bundle on disk: a folder with manifest.json, graphs and tokenizer. Read and verified here; `writer` makes one.

This module opens files and checks bytes; it never runs a graph. What the manifest says is in `manifest`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding.bundles.contents import AdapterFiles, BinarizerFiles, CompatibilityFiles, EmbeddingFiles
from bebr.encoding.bundles.manifest import AdapterEntry, BinarizerEntry, EmbeddingEntry, FileEntry, Gain, Manifest
from bebr.encoding.bundles.manifest_json import MANIFEST, read_manifest
from bebr.errors import BundleNotFound, DamagedBundle, InvalidOption

MAX_MANIFEST_BYTES = 16 * 2**20


DEFAULT_CANDIDATES = 200
"""Candidates of a scan for 10 hits where nothing was measured: enough for the coarsest scan codes
(docs/benchmarks.md#rescoring)."""


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
            manifest = read_manifest(_manifest_bytes(path / MANIFEST))
        except DamagedBundle as error:
            raise DamagedBundle(f"bundle at {path}: {error.detail}", path=str(path), file=MANIFEST) from error
        for name, entry in manifest.files.items():
            _check_file(manifest.id, path / name, entry, verify)
        return cls(path, manifest, manifest.fingerprint())

    def check_file(self, name: str) -> None:
        """Raise DamagedBundle unless one of its files is still what the manifest says."""
        _check_file(self.id, self.path / name, self.manifest.files[name], verify=True)

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

    def written_at(self) -> float:
        """When the manifest was written, in seconds since 1970."""
        return (self.path / MANIFEST).stat().st_mtime

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

    @property
    def rescore_candidates(self) -> int:
        """How many candidates of a scan 10 hits are chosen from by their rescore codes, as it was measured."""
        measured = self.figures.get("candidates")
        return measured if isinstance(measured, int) and measured > 0 else DEFAULT_CANDIDATES

    def summary(self) -> "BundleSummary":
        """What the bundle is, in a few words."""
        binarizer = self.manifest.binarizer
        return BundleSummary(
            name=self.name,
            version=self.version,
            id=self.id,
            code=str(binarizer.spec) if binarizer else None,
            code_bytes=binarizer.spec.code_size_bytes if binarizer else None,
            rescore_bytes=binarizer.spec.rescore_code_size_bytes if binarizer else None,
            embedding_dims=self.embedding_dims,
            text=self.has_embedding_model,
            fingerprint=self.fingerprint,
            compatible_with=[entry.bundle for entry in self.manifest.compatible_with],
        )

    def read_binarizer(self) -> BinarizerFiles | None:
        """The binarizer's bytes and settings, to be written into another bundle; None where there is none."""
        if (entry := self.manifest.binarizer) is None:
            return None
        rescore = None if entry.rescore is None else (self.path / entry.rescore).read_bytes()
        return BinarizerFiles((self.path / entry.graph).read_bytes(), entry.spec, self.steps, entry.gain, rescore)

    def read_embedding(self) -> EmbeddingFiles | None:
        """The embedding model's bytes and settings, to be written into another bundle; None where there is none."""
        if (entry := self.manifest.embedding) is None:
            return None
        graph, tokenizer = (self.path / entry.graph).read_bytes(), (self.path / entry.tokenizer).read_bytes()
        weights = None if entry.weights is None else (self.path / entry.weights).read_bytes()
        return EmbeddingFiles(graph, tokenizer, entry.settings, weights)

    def read_compatibilities(self) -> list[CompatibilityFiles]:
        """All bytes and settings, to be written into another bundle."""

        def adapter(entry: AdapterEntry) -> AdapterFiles:
            return AdapterFiles((self.path / entry.graph).read_bytes(), entry.scales, entry.default, entry.weight)

        return [
            CompatibilityFiles(
                bundle=entry.bundle,
                fingerprint=entry.fingerprint,
                embedding_dims=entry.embedding_dims,
                forward=adapter(entry.forward),
                backward=adapter(entry.backward),
                reference=(self.path / entry.reference).read_bytes(),
                figures=entry.figures,
            )
            for entry in self.manifest.compatible_with
        ]


@dataclass(frozen=True)
class BundleSummary:
    """What lists of bundles show."""

    name: str
    version: str
    id: str
    """`name@version`."""
    code: str | None
    """CodeSpec of its codes; None without a binarizer."""
    code_bytes: int | None
    """Bytes of a scan code; None without a binarizer."""
    rescore_bytes: int | None
    """Bytes of a rescore code, 0 where it makes none; None without a binarizer."""
    embedding_dims: int
    text: bool
    """Whether it has an embedding model, so that it takes texts."""
    fingerprint: str
    compatible_with: list[str]
    """Ids of the bundles whose codes its queries can search."""


def _manifest_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DamagedBundle(f"{MANIFEST} has more than {MAX_MANIFEST_BYTES} bytes")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFound(f"no bundle at {path.parent}: it has no {MANIFEST}", path=str(path.parent)) from None
    except OSError as error:
        raise DamagedBundle(f"{MANIFEST} cannot be read: {error.strerror}") from error


def no_binarizer(manifest: Manifest) -> InvalidOption:
    """The error for an option that needs the binarizer that a bundle lacks."""
    return InvalidOption(f"bundle '{manifest.id}' has no binarizer; make one from embeddings with 'bebr fit'")


def no_embedding_model(manifest: Manifest) -> InvalidOption:
    """The error for an option that needs the embedding model that a bundle lacks."""
    return InvalidOption(
        f"bundle '{manifest.id}' has no embedding model, so it takes vectors and no texts; "
        f"add one with 'bebr models pull {manifest.name}'"
    )


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
