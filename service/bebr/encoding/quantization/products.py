"""Which products graphs project queries by, as the processes of one service tell each other.

Whoever writes codes opens the graphs. The others only search, and a search needs no more of a graph than its matrix:
told that, they need not load ONNX Runtime, whose memory no process shares with another. Files last as long as the
service; one that cannot be read or written costs memory only.
"""

import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bebr.core.arrays import Floats
from bebr.core.types import Role
from bebr.encoding.bundles.bundle import Bundle


@dataclass(frozen=True)
class Product:
    """What a graph makes of embeddings that are queries."""

    matrix: Floats
    """(embedding_dims, dims) float32: what it makes of every axis."""
    error: float
    """By how much the product with the matrix errs, as a share of its largest value."""
    mean: Floats
    """(embedding_dims,) float32: the middle of what codes represent."""


@dataclass(frozen=True)
class ToldProduct:
    """That of one graph, told by the primary to its followers."""

    path: Path
    role: Role
    check_graph: Callable[[], None]
    """Raises DamagedBundle where the file of the graph is not what the manifest says."""

    def read(self) -> Product | None:
        """None where nobody has said it, or this process is to say it."""
        if self.role is Role.PRIMARY:
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                return Product(found["matrix"], float(found["error"]), found["mean"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def tell(self, product: Product) -> None:
        if self.role is Role.PRIMARY:
            temporary = self.path.with_name(f"{self.path.name}.tmp")
            with suppress(OSError), temporary.open("wb") as file:
                np.savez(file, matrix=product.matrix, error=product.error, mean=product.mean)
                file.close()
                temporary.replace(self.path)


class ToldProducts:
    """Those of all graphs."""

    def __init__(self, folder: Path, role: Role) -> None:
        """folder: of the service, and of nobody else."""
        self._folder, self._role = folder, role

    def of(self, bundle: Bundle, graph: str) -> ToldProduct:
        """graph: one of the files of the bundle."""
        path = self._folder / f"product-{bundle.fingerprint}-{graph}.npz"
        return ToldProduct(path, self._role, partial(bundle.check_file, graph))
