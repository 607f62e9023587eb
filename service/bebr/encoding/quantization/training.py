"""A collection's own binarizer: what the service needs of fitting, in one place."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bebr.encoding.bundles.contents import BinarizerFiles
from bebr.encoding.quantization.layout import MAX_QUERIES, RECALL_AT, fit_bytes
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.errors import InvalidOption

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what was just measured); what it raises ends the fit."""


def fit_own(
    embeddings: NDArray[np.float32], size_bytes: int, progress: Progress | None = None
) -> tuple[BinarizerFiles, dict[str, Any]]:
    """embeddings (rows, embedding_dims) float32 -> a binarizer of `size_bytes` a code, and what was measured.

    Takes seconds to tens of seconds. Raises InvalidEmbeddings, InvalidOption.
    """
    fitted, report = fit_bytes(embeddings, size_bytes, progress)
    measured = report.to_json()
    figures = {
        f"recall_at_{measured['recall_at']}": measured["chosen"]["recall"],
        "queries": measured["queries"],
        "rows": len(embeddings),
        "centred": measured["chosen"]["centred"],
    }
    return files_of(fitted), figures


def least_rows(embedding_dims: int) -> int:
    """So many embeddings are needed at least: a fifth is held out, and as many as dims, or 100, must be left."""
    left = max(embedding_dims, 10 * RECALL_AT)
    rows = left + 1
    while rows - min(MAX_QUERIES, rows // 5) < left:
        rows += 1
    return rows


def check_size(size_bytes: int, embedding_dims: int) -> None:
    """Raise InvalidOption unless embeddings of these dims can have codes of that size: at most 4 bits a dim."""
    if not 1 <= size_bytes <= embedding_dims // 2:
        raise InvalidOption(
            f"a code of embeddings of {embedding_dims} dims has 1 to {embedding_dims // 2} bytes, got {size_bytes}",
            key="bytes",
        )
