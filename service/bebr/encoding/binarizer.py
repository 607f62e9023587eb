"""Runs a binarizer's graph: embeddings -> code-space vectors of queries, or records of points.

The graph has the input `embedding` (n, embedding_dims) float32 and the outputs `projected` (n, dims) float32, `levels`
(n, dims) uint8 and `gain` (n,) float16. How it computes them is the graph's affair; here it is only held to that shape.
"""

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnx.utils
from numpy.typing import NDArray

from bebr.core.codes import CodeSpec, join_records, pack_levels
from bebr.encoding.session import FLOAT32, check_signature, open_session
from bebr.errors import DamagedBundle, DimensionMismatch

BATCH_ROWS = 256
"""Rows per call of the graph: its intermediate arrays then stay in the cache."""
FLOAT16 = "tensor(float16)"
UINT8 = "tensor(uint8)"


class Binarizer:
    """One opened graph. `project` and `encode` may be called from several threads at once."""

    def __init__(self, path: Path, spec: CodeSpec, embedding_dims: int, threads: int = 1) -> None:
        """Open the graph in `path`. Raises DamagedBundle when it does not load or does not fit `spec` and dims."""
        self.spec = spec
        self.embedding_dims = embedding_dims
        self._path = path
        self._session = open_session(path, threads)
        outputs = {"projected": (FLOAT32, spec.dims), "levels": (UINT8, spec.dims), "gain": (FLOAT16, None)}
        check_signature(self._session, path, {"embedding": (FLOAT32, embedding_dims)}, outputs)
        # ONNX Runtime computes every node of a graph whatever is fetched from it. A query needs few of them, so they
        # get a session of their own: 8 us instead of 48 us for one row. It has one thread: waking a second one costs
        # more than a row, and on a busy machine a hundred times more.
        self._query_session = open_session(path, 1, _cut_out(path, "projected"))

    def project(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """embeddings (rows, embedding_dims) float32 -> (rows, dims) float32: the query side of adc.

        Raises DimensionMismatch on another shape.
        """
        self._check(embeddings)
        (projected,) = self._query_session.run(["projected"], {"embedding": embeddings})
        return cast(NDArray[np.float32], projected)

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """embeddings (rows, embedding_dims) float32 -> records (rows, record_size_bytes) uint8.

        Raises DimensionMismatch on another shape, DamagedBundle when the graph makes levels over those of `spec`.
        """
        self._check(embeddings)
        records = np.empty((len(embeddings), self.spec.record_size_bytes), np.uint8)
        for start in range(0, len(embeddings), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            levels, gains = self._session.run(["levels", "gain"], {"embedding": embeddings[batch]})
            if (levels > self.spec.max_levels).any():
                raise DamagedBundle(f"{self._path.name} makes levels over those of '{self.spec}'", file=self._path.name)
            records[batch] = join_records(pack_levels(levels, self.spec), gains)
        return records

    def _check(self, embeddings: NDArray[np.float32]) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dims:
            raise DimensionMismatch(
                f"expected embeddings of shape (rows, {self.embedding_dims}), got {embeddings.shape}"
            )


def _cut_out(path: Path, output: str) -> bytes:
    """The part of the graph in `path` that `output` depends on. The graph was loaded and checked before."""
    whole = onnx.load(path)
    part = onnx.utils.Extractor(whole).extract_model(["embedding"], [output])
    return cast(bytes, part.SerializeToString())
