"""What `fit`, `train` and `train-adapter` share: how large a code is, and where its bundle is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bebr.encoding import BinarizerFiles, Bundle, CompatibilityFiles
    from bebr.encoding.progress import Progress
    from bebr.encoding.quantization.recurrent import Recurrent
    from bebr.encoding.quantization.trials import FitReport


@dataclass(frozen=True)
class Size:
    """The size options of a command. Raises InvalidOption unless exactly one of the first three is given."""

    bytes: int | None
    """--bytes: the layout is chosen."""
    code: str | None
    """--code: the layout."""
    target_recall: float | None
    """--target-recall: the smallest code that reaches it is chosen."""
    nested: bool = False
    """--nested, which needs --code: every prefix of blocks is a code too."""
    rescore_bytes: int = 0
    """--rescore-bytes: size of the rescore code beside it; 0 for none."""
    cpu_seconds: float | None = None
    """--cpu-seconds: what choosing a layout may cost, about; 0: as much as it takes; None: what suits the dims."""

    def __post_init__(self) -> None:
        from bebr.errors import InvalidOption

        if sum(given is not None for given in (self.bytes, self.code, self.target_recall)) != 1:
            raise InvalidOption("expected exactly one of --bytes, --code and --target-recall")
        if self.cpu_seconds is not None and self.bytes is None:
            raise InvalidOption("--cpu-seconds bounds the choice of a layout: give it with --bytes")
        if self.nested and self.code is None:
            raise InvalidOption("--nested needs a layout: give it with --code, such as --code 128x2+128x2")
        if self.code is not None and "/" in self.code:
            raise InvalidOption(
                "--code is the layout of the scan code; give the size of a rescore code with --rescore-bytes"
            )

    def fit(self, rows: "NDArray[np.floating[Any]]", progress: "Progress") -> "tuple[Recurrent, FitReport]":
        """Fit a binarizer of this size to rows (rows, embedding_dims)."""
        from bebr.core.codes import CodeSpec
        from bebr.encoding.quantization.layout import fit_bytes, fit_code, fit_target

        if self.bytes is not None:
            bound = self.bound(rows.shape[-1])
            return fit_bytes(rows, self.bytes, progress, rescore_bytes=self.rescore_bytes, cpu_seconds=bound)
        if self.target_recall is not None:
            return fit_target(rows, self.target_recall, progress, rescore_bytes=self.rescore_bytes)
        spec = CodeSpec.parse(self.code or "")
        return fit_code(rows, spec, progress, self.nested, rescore_bytes=self.rescore_bytes)

    def bound(self, dims: int) -> float:
        """CPU seconds that a fit to embeddings of so many dims may cost."""
        from bebr.encoding.quantization.budget import default_cpu_seconds
        from bebr.encoding.quantization.layout import UNBOUNDED

        return default_cpu_seconds(dims) if self.cpu_seconds is None else self.cpu_seconds or UNBOUNDED

    def estimate(self, rows: "NDArray[np.floating[Any]]") -> float | None:
        """CPU seconds of the fit, about; None where nobody knows."""
        from bebr.encoding.quantization.candidates import candidates
        from bebr.encoding.quantization.layout import estimate

        if self.bytes is None or rows.ndim != 2:
            return None
        dims = rows.shape[1]
        return min(self.bound(dims), estimate(len(rows), dims, list(candidates(self.bytes, dims))))

    def suffixes(self) -> list[str]:
        """The name suffix of each prefix of a nested code: its size in bytes."""
        from bebr.core.codes import CodeSpec

        if not self.nested or self.code is None:
            return []
        spec = CodeSpec.parse(self.code)
        return [f"-{spec.prefix(blocks).code_size_bytes}" for blocks in range(1, len(spec.blocks))]


@dataclass(frozen=True)
class Target:
    """The bundle that a command writes."""

    folder: Path
    """Folder that the bundle's own folder is created in."""
    name: str
    version: str
    replace: bool
    """Whether a bundle of the same id may be replaced."""
    embedding: "Bundle | None" = None
    """Bundle whose embedding model the new one takes over."""
    adapters: "Sequence[CompatibilityFiles]" = ()
    """Adapters to the models of other bundles, and back."""

    def check_free(self, size: Size | None = None) -> None:
        """Raise AlreadyExists before the work rather than after it."""
        from bebr.errors import AlreadyExists

        for suffix in ["", *(size.suffixes() if size is not None else ())]:
            target = self.folder / f"{self.name}{suffix}@{self.version}"
            if target.exists() and not self.replace:
                raise AlreadyExists(
                    f"bundle '{target.name}' already exists: {target}; choose another --version or --name, or --replace"
                )

    def write(
        self, files: "BinarizerFiles", embedding_dims: int, metrics: Mapping[str, Any], suffix: str = ""
    ) -> "Bundle":
        """Write the bundle; the suffix is appended to its name."""
        from bebr.encoding import write_bundle

        return write_bundle(
            self.folder,
            f"{self.name}{suffix}",
            self.version,
            embedding_dims=embedding_dims,
            binarizer=files,
            embedding=self.embedding.read_embedding() if self.embedding is not None else None,
            figures=metrics,
            compatible_with=self.adapters,
            replace=self.replace,
        )

    def write_prefixes(self, nested: "Recurrent", size: Size, metrics: Mapping[str, Any]) -> "list[Bundle]":
        """Write a bundle for each prefix of a nested code."""
        from bebr.encoding.quantization.recurrent_graph import files_of

        return [
            self.write(files_of(nested.prefix(blocks)), nested.embedding_dims, metrics, suffix)
            for blocks, suffix in enumerate(size.suffixes(), 1)
        ]
