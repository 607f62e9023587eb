"""Evaluates codes and baselines side by side on a collection, for the commands and the benchmarks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bebr.core.arrays import Floats
from bebr.encoding.quantization.layout import fit_bytes
from bebr.encoding.quantization.recurrent_graph import files_of
from bebr.encoding.quantization.residual import fit_residual
from bebr.encoding.quantization.rows import sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings
from bebr_training.baselines.numpy_methods import Variants
from bebr_training.data.collections import Collection, Progress
from bebr_training.evaluation.measure import BOUND, DEPTH, Measured, Measurer, summarize
from bebr_training.evaluation.results import Evaluation
from bebr_training.search.coded import Candidate

FITTED = "fitted binarizer"
"""Label of what `bebr fit` makes of the documents."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    candidates: Sequence[Candidate]
    """Binarizers, which have sizes of their own."""
    sizes: Sequence[int]
    """Bytes of the fitted binarizers, the baselines and the bound."""
    fit: bool
    """Whether to fit a binarizer to the documents."""
    baselines: Mapping[str, Variants]
    """Label -> variants."""
    bound: bool
    """Whether to measure the rate-distortion bound."""
    rescore_sizes: Sequence[int] = ()
    """Bytes of the rescore codes that each fitted binarizer is also measured with."""


def evaluate(collection: Collection, plan: Plan, progress: Progress | None = None) -> Evaluation:
    """Measure everything in the plan on one collection.

    Raises InvalidEmbeddings when there are fewer than DEPTH documents or no queries, and what a fit raises.
    """
    documents, queries = len(collection.documents), len(collection.queries)
    if documents < DEPTH or not queries:
        raise InvalidEmbeddings(
            f"collection '{collection.name}' has {documents} documents and {queries} queries; recall@{DEPTH} needs at "
            f"least {DEPTH} documents and a query"
        )
    measurer = Measurer(collection)
    if not measurer.documents.rank:
        raise InvalidEmbeddings(f"collection '{collection.name}': all documents are the same")
    measured = [measurer.plain_floats()]
    steps = list(_steps(measurer, plan))
    for done, (label, measure) in enumerate(steps):
        if progress is not None:
            progress(done, len(steps), f"{collection.name}: {label}")
        measured += measure()
    if progress is not None:
        progress(len(steps), len(steps), f"{collection.name}: done")
    judged = len(measured[0].ndcg)
    return Evaluation(collection.name, documents, collection.dims, queries, judged, summarize(measured))


def fitted_binarizers(documents: Floats, size_bytes: int, rescore_sizes: Sequence[int]) -> Iterator[Candidate]:
    """The binarizer that `bebr fit --bytes` fits to the documents, and the same with rescore codes of these sizes.

    The scan code is fitted once. Raises InvalidEmbeddings, InvalidOption.
    """
    sizes = sorted(set(rescore_sizes))
    fitted, report = fit_bytes(documents, size_bytes, rescore_bytes=sizes[0] if sizes else 0)
    dims = documents.shape[1]
    yield Candidate.of_files(FITTED, files_of(replace(fitted, residual=None)), dims)
    candidates = report.rescored.candidates if report.rescored is not None else 0
    rows = unit_rows(sample_rows(documents, np.random.default_rng(0)))
    left = fitted.left_over(rows) if sizes else rows
    for size in sizes:
        finer = replace(fitted, residual=fit_residual(rows, left, size))
        yield Candidate.of_files(FITTED, files_of(finer), dims, candidates=candidates)


def _steps(measurer: Measurer, plan: Plan) -> Iterator[tuple[str, Callable[[], list[Measured]]]]:
    """(label, function that measures) of each method and size."""

    def fit_and_measure(size_bytes: int) -> list[Measured]:
        scanned, *rescored = fitted_binarizers(measurer.collection.documents, size_bytes, plan.rescore_sizes)
        return [*measurer.codes(scanned), *(measurer.rescored(candidate) for candidate in rescored)]

    for candidate in plan.candidates:
        yield candidate.label, partial(measurer.codes, candidate)
    for size_bytes in plan.sizes:
        if plan.fit:
            yield f"{FITTED}, {size_bytes} bytes", partial(fit_and_measure, size_bytes)
        for label, variants in plan.baselines.items():
            yield f"{label}, {size_bytes} bytes", partial(measurer.baseline, label, variants, size_bytes)
        if plan.bound:
            yield f"{BOUND}, {size_bytes} bytes", partial(measurer.bound, size_bytes)
