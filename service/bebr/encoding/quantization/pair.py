"""The two binarizers of a bundle: of the scan code, and of the rescore code, which holds what that leaves over."""

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import code_values
from bebr.encoding.bundles.bundle import Bundle
from bebr.encoding.quantization.binarizer import BATCH_ROWS, Binarizer
from bebr.errors import DamagedBundle


def open_binarizer(bundle: Bundle, threads: int = 1) -> Binarizer:
    """That of the scan code. Raises InvalidOption without one, DamagedBundle.

    Only codes that represent embeddings leave something over, so with a rescore code it must be linear.
    """
    entry = bundle.binarizer
    binarizer = Binarizer(bundle.path / entry.graph, entry.spec.scan, bundle.embedding_dims, threads)
    if entry.rescore is not None and not binarizer.is_linear:
        raise DamagedBundle(
            f"bundle '{bundle.id}' has a rescore code, but its scan codes represent no embedding: {entry.graph} does "
            "not project queries linearly",
            path=str(bundle.path),
            file=entry.graph,
        )
    return binarizer


def open_rescore(bundle: Bundle, threads: int = 1) -> Binarizer | None:
    """That of the rescore code; None where the bundle makes none. Raises DamagedBundle."""
    entry = bundle.binarizer
    if entry.spec.rescore is None or entry.rescore is None:
        return None
    rescore = Binarizer(bundle.path / entry.rescore, entry.spec.rescore, bundle.embedding_dims, threads)
    if not rescore.is_linear:
        raise DamagedBundle(
            f"bundle '{bundle.id}': {entry.rescore} does not project queries linearly, as a rescore code needs it",
            path=str(bundle.path),
            file=entry.rescore,
        )
    return rescore


def encode_rescored(
    scan: Binarizer, steps: NDArray[np.float32], rescore: Binarizer, embeddings: Floats
) -> NDArray[np.uint8]:
    """Unit embeddings (rows, embedding_dims) float32 -> whole records (rows, record_size_bytes) uint8."""
    scan_size = scan.spec.record_size_bytes
    records = np.empty((len(embeddings), scan_size + rescore.spec.record_size_bytes), np.uint8)
    for start in range(0, len(embeddings), BATCH_ROWS):
        rows = embeddings[start : start + BATCH_ROWS]
        batch = records[start : start + BATCH_ROWS]
        batch[:, :scan_size] = scanned = scan.encode(rows)
        batch[:, scan_size:] = rescore.encode(rows - scan.decode(code_values(scanned, scan.spec, steps)))
    return records
