"""A binarizer fitted to a collection's own embeddings: what the service needs of fitting, in one place."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bebr.core.arrays import Floats
from bebr.encoding.bundles.contents import BinarizerFiles
from bebr.encoding.progress import Progress
from bebr.encoding.quantization.budget import default_cpu_seconds
from bebr.encoding.quantization.candidates import candidates
from bebr.encoding.quantization.layout import estimate, fit_bytes
from bebr.encoding.quantization.measuring import Coder
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.trials import Trials, held_out_rows, least_searched_rows
from bebr.errors import InvalidOption


def fit_own(
    embeddings: Floats,
    size_bytes: int,
    rescore_bytes: int = 0,
    progress: Progress | None = None,
    cpu_seconds: float | None = None,
) -> tuple[BinarizerFiles, dict[str, Any]]:
    """embeddings (rows, embedding_dims) float32 -> a binarizer of `size_bytes` a code, and what was measured.

    rescore_bytes: size of the rescore code beside it; 0 for none. recall_at_10 is that of the scan code alone.
    cpu_seconds: what it may cost, about; None: what suits the dims. Raises InvalidEmbeddings, InvalidOption.
    """
    cpu_seconds = cpu_seconds or default_cpu_seconds(embeddings.shape[1])
    fitted, report = fit_bytes(embeddings, size_bytes, progress, rescore_bytes=rescore_bytes, cpu_seconds=cpu_seconds)
    metrics: dict[str, Any] = {
        f"recall_at_{report.recall_at}": report.chosen.recall,
        "queries": report.queries,
        "searched": report.chosen.rows,
        "rows": len(embeddings),
        "fitted_to": report.fitted_to,
        "centered": report.chosen.centered,
    }
    if (rescored := report.rescored) is not None:
        metrics |= {
            f"recall_at_{report.recall_at}": rescored.coverage[0].share,
            f"rescored_recall_at_{report.recall_at}": rescored.recall,
            "candidates": rescored.candidates,
            "coverage": [asdict(one) for one in rescored.coverage],
        }
    return files_of(fitted), metrics


def estimate_own(rows: int, embedding_dims: int, size_bytes: int, cpu_seconds: float | None = None) -> float:
    """CPU seconds that `fit_own` takes, about."""
    bound = cpu_seconds or default_cpu_seconds(embedding_dims)
    return min(bound, estimate(rows, embedding_dims, list(candidates(size_bytes, embedding_dims))))


def recall_of_others(embeddings: Floats, coders: Mapping[str, Coder]) -> dict[str, float]:
    """recall@10 of other binarizers by name, with the queries and rows that `fit_own` measured what it chose with."""
    if not coders:
        return {}
    trials = Trials(embeddings, None)
    return {name: round(trials.recall_of(coder), 4) for name, coder in coders.items()}


def least_rows(embedding_dims: int) -> int:
    """The least number of embeddings that a fit needs: enough must be left after some are held out."""
    least = least_searched_rows(embedding_dims)
    rows = least + 1
    while rows - held_out_rows(rows) < least:
        rows += 1
    return rows


def check_size(size_bytes: int, embedding_dims: int) -> None:
    """Raise InvalidOption unless embeddings of these dims can have codes of that size: at most 4 bits a dim."""
    if not 1 <= size_bytes <= embedding_dims // 2:
        raise InvalidOption(
            f"a code of embeddings of {embedding_dims} dims has 1 to {embedding_dims // 2} bytes, got {size_bytes}",
            key="bytes",
        )
