"""The two binarizers of a bundle: of the scan code, and of the rescore code, which holds what that leaves over."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.core.scoring import RescoreQueries
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.quantization.binarizer import BATCH_ROWS, Binarizer
from bebr.encoding.quantization.products import ToldProducts
from bebr.errors import DamagedBundle
from bebr.kernel import rescore
from bebr.kernel.records import represent


def open_binarizer(bundle: Bundle, threads: int = 1, told: ToldProducts | None = None) -> Binarizer:
    """That of the scan code. told: see `Binarizer`. Raises InvalidOption without one, DamagedBundle.

    Only codes that represent embeddings leave something over, so with a rescore code it must be linear.
    """
    entry = bundle.binarizer
    product = None if told is None else told.of(bundle, entry.graph)
    binarizer = Binarizer(bundle.path / entry.graph, entry.spec.scan, bundle.embedding_dims, threads, product)
    if entry.rescore is not None and not binarizer.is_linear:
        raise DamagedBundle(
            f"bundle '{bundle.id}' has a rescore code, but its scan codes represent no embedding: {entry.graph} does "
            "not project queries linearly",
            path=str(bundle.path),
            file=entry.graph,
        )
    return binarizer


class RescoreBinarizer(Binarizer):
    """That of a rescore code. Its queries are projected in whole numbers: every search waits for the matrix, which lies
    in no cache after a scan."""

    def project(self, embeddings: Floats) -> Floats:
        """As that of `Binarizer`, but for the rounding of the matrix and of the rows."""
        if embeddings.shape[1:] != (self.embedding_dims,) or self._projection is None:
            return super().project(embeddings)
        return self._projection.project(np.ascontiguousarray(embeddings, np.float32))

    def queries(self, embeddings: Floats, record_spec: CodeSpec) -> RescoreQueries:
        """What is projected, as the rescore codes of such records take it."""
        if self._projection is None:
            return rescore.quantize(self.project(embeddings), record_spec)
        return self._projection.queries(np.ascontiguousarray(embeddings, np.float32))

    @cached_property
    def _projection(self) -> rescore.Projection | None:
        if (columns := self._columns) is None:
            return None
        column_of = np.arange(len(columns.factors)) if columns.of is None else columns.of
        return rescore.Projection(self.spec, columns.matrix, column_of, columns.factors)


def open_rescore(bundle: Bundle, threads: int = 1, told: ToldProducts | None = None) -> RescoreBinarizer | None:
    """That of the rescore code; None where the bundle makes none. Raises DamagedBundle."""
    entry = bundle.binarizer
    if entry.spec.rescore is None or entry.rescore is None:
        return None
    product = None if told is None else told.of(bundle, entry.rescore)
    opened = RescoreBinarizer(bundle.path / entry.rescore, entry.spec.rescore, bundle.embedding_dims, threads, product)
    if not opened.is_linear:
        raise DamagedBundle(
            f"bundle '{bundle.id}': {entry.rescore} does not project queries linearly, as a rescore code needs it",
            path=str(bundle.path),
            file=entry.rescore,
        )
    return opened


def encode_rescored(
    scan: Binarizer, steps: NDArray[np.float32], rescore: Binarizer, embeddings: Floats
) -> NDArray[np.uint8]:
    """Unit embeddings (rows, embedding_dims) float32 -> whole records (rows, record_size_bytes) uint8."""
    scan_size = scan.spec.record_size_bytes
    records = np.empty((len(embeddings), scan_size + rescore.spec.record_size_bytes), np.uint8)
    for start in range(0, len(embeddings), BATCH_ROWS):
        rows = embeddings[start : start + BATCH_ROWS]
        batch = records[start : start + BATCH_ROWS]
        levels, gains = scan.write_records(rows, batch)
        left_over = rows - scan.decode(represent(levels, gains, scan.spec, steps))
        rescore.write_records(left_over, batch, scan_size)
    return records
