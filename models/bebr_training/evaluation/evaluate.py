"""Evaluates codes and baselines side by side on a collection; the commands and the benchmarks call this."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bebr.encoding.quantization.training import fit_own
from bebr.errors import InvalidEmbeddings
from bebr_training.baselines.numpy_methods import Variants
from bebr_training.data.collections import Collection, Progress
from bebr_training.evaluation.measure import BOUND, DEPTH, Measured, Measurer, summarize
from bebr_training.evaluation.results import Evaluation
from bebr_training.search.coded import Candidate
from bebr_training.search.ranking import Floats

OWN_FIT = "own fit"


@dataclass(frozen=True)
class Plan:
    """What to measure. sizes: bytes of own fits, baselines and bound; candidates have sizes of their own."""

    candidates: Sequence[Candidate]
    sizes: Sequence[int]
    own_fit: bool
    baselines: Mapping[str, Variants]
    bound: bool


def evaluate(collection: Collection, plan: Plan, progress: Progress | None = None) -> Evaluation:
    """Measure everything of the plan on one collection.

    Raises InvalidEmbeddings when there are fewer than DEPTH documents or no queries, and what fitting raises.
    """
    documents, queries = len(collection.documents), len(collection.queries)
    if documents < DEPTH or not queries:
        raise InvalidEmbeddings(
            f"collection '{collection.name}' has {documents} documents and {queries} queries; recall@{DEPTH} needs at "
            f"least {DEPTH} documents and a query"
        )
    measurer = Measurer(collection)
    if not measurer.documents.rank:
        raise InvalidEmbeddings(
            f"collection '{collection.name}': all documents are the same; nothing can be told apart"
        )
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


def own_fit(documents: Floats, size_bytes: int) -> Candidate:
    """What `bebr fit --bytes` makes of the documents. Raises InvalidEmbeddings, InvalidOption."""
    files, _ = fit_own(documents, size_bytes)
    return Candidate.of_files(OWN_FIT, files, documents.shape[1])


def _steps(measurer: Measurer, plan: Plan) -> Iterator[tuple[str, Callable[[], list[Measured]]]]:
    """(what it is, what measures it) for each method and size."""

    def fit_and_measure(size_bytes: int) -> list[Measured]:
        return measurer.codes(own_fit(measurer.collection.documents, size_bytes))

    for candidate in plan.candidates:
        yield candidate.label, partial(measurer.codes, candidate)
    for size_bytes in plan.sizes:
        if plan.own_fit:
            yield f"{OWN_FIT}, {size_bytes} bytes", partial(fit_and_measure, size_bytes)
        for label, variants in plan.baselines.items():
            yield f"{label}, {size_bytes} bytes", partial(measurer.baseline, label, variants, size_bytes)
        if plan.bound:
            yield f"{BOUND}, {size_bytes} bytes", partial(measurer.bound, size_bytes)
