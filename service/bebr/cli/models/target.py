"""What `bebr fit` and `bebr train` share: how large a code is to be, and where its bundle goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bebr.encoding import BinarizerFiles, Bundle
    from bebr.encoding.bundles.bundle import CompatibilityFiles
    from bebr.encoding.quantization.layout import FitReport
    from bebr.encoding.quantization.recurrent import Recurrent

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Size:
    """--bytes, --code and --target-recall, of which one is given; --nested goes with --code.

    Raises InvalidOption for any other combination.
    """

    bytes: int | None
    code: str | None
    target_recall: float | None
    nested: bool = False

    def __post_init__(self) -> None:
        from bebr.errors import InvalidOption

        if sum(given is not None for given in (self.bytes, self.code, self.target_recall)) != 1:
            raise InvalidOption("expected exactly one of --bytes, --code and --target-recall")
        if self.nested and self.code is None:
            raise InvalidOption("--nested needs the blocks themselves: give them with --code, such as 128x2+128x2")

    def fit(self, rows: "NDArray[np.floating[Any]]", progress: Progress) -> "tuple[Recurrent, FitReport]":
        """The binarizer of this size for rows (rows, embedding_dims)."""
        from bebr.core.codes import CodeSpec
        from bebr.encoding.quantization.layout import fit_bytes, fit_code, fit_target

        if self.bytes is not None:
            return fit_bytes(rows, self.bytes, progress)
        if self.target_recall is not None:
            return fit_target(rows, self.target_recall, progress)
        return fit_code(rows, CodeSpec.parse(self.code or ""), progress, self.nested)

    def suffixes(self) -> list[str]:
        """What the names of a nested code's prefixes end in: their sizes in bytes."""
        from bebr.core.codes import CodeSpec

        if not self.nested or self.code is None:
            return []
        spec = CodeSpec.parse(self.code)
        return [f"-{spec.prefix(blocks).code_size_bytes}" for blocks in range(1, len(spec.blocks))]


@dataclass(frozen=True)
class Target:
    """Where a bundle goes. embedding: the bundle whose embedding model it takes over, if it has one.

    reached: how its queries reach the codes of others.
    """

    folder: Path
    name: str
    version: str
    replace: bool
    embedding: "Bundle | None" = None
    reached: "Sequence[CompatibilityFiles]" = ()

    def check_free(self, size: Size | None = None) -> None:
        """Raise AlreadyExists before the work rather than after it."""
        from bebr.errors import AlreadyExists

        for suffix in ["", *(size.suffixes() if size is not None else ())]:
            target = self.folder / f"{self.name}{suffix}@{self.version}"
            if target.exists() and not self.replace:
                raise AlreadyExists(
                    f"bundle '{target.name}' is there already: {target}; give --version, --name or --replace"
                )

    def write(
        self, files: "BinarizerFiles", embedding_dims: int, figures: dict[str, Any], suffix: str = ""
    ) -> "Bundle":
        """Write the bundle; the suffix follows its name."""
        from bebr.encoding import write_bundle

        return write_bundle(
            self.folder,
            f"{self.name}{suffix}",
            self.version,
            embedding_dims=embedding_dims,
            binarizer=files,
            embedding=self.embedding.read_embedding() if self.embedding is not None else None,
            figures=figures,
            compatible_with=self.reached,
            replace=self.replace,
        )

    def write_prefixes(self, nested: "Recurrent", size: Size, figures: dict[str, Any]) -> "list[Bundle]":
        """A bundle for each prefix of a nested code."""
        from bebr.encoding.quantization.recurrent_graph import files_of

        return [
            self.write(files_of(nested.prefix(blocks)), nested.embedding_dims, figures, suffix)
            for blocks, suffix in enumerate(size.suffixes(), 1)
        ]
