"""Chooses the layout of a code, its blocks and centering, by what is measured: recall@10 of adc on held-out rows.

Which blocks are best differs by collection and by embedding model, so nothing is assumed. All candidates of a size are
measured cheaply; the best few again with more rows and rounds, and the best of them once more with its mean taken out.

Of codes that find about as much the widest is taken, up to three quarters of the embedding's dims. Held-out rows stand
in for queries, but real queries lie where rows do not, and what a code leaves out of them is lost: over several fits,
codes of few dims keep less of the floats' nDCG@10 (docs/benchmarks.md#width). Beyond three quarters of the dims nothing
more is kept, and recall falls.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from bebr.core.codes import CodeSpec
from bebr.encoding.progress import Progress
from bebr.encoding.quantization.budget import (
    LAST_SHARE,
    STAGES,
    axes_seconds,
    paid_effort,
    paid_stage,
    unbounded_seconds,
)
from bebr.encoding.quantization.candidates import candidates
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import Effort
from bebr.encoding.quantization.trials import FINAL, FitReport, Trial, Trials
from bebr.errors import InvalidEmbeddings, InvalidOption

FINALISTS = 5
"""Number of specs of a size that are measured again."""
WIDE_FINALISTS = 2
"""Number of finalists that are the widest of those that find about as much; the others are the best."""
WIDE_SHARE = 0.1
"""A wider code may miss so much more of what the best misses: where little is missed, little may be added."""
MAX_WIDE_MARGIN = 0.008
"""Recall on held-out rows that a wider code may lack at most."""
WIDE_ENOUGH = 3 / 4
"""Share of the embedding's dims from which codes count as equally wide."""
CENTERING_MARGIN = 0.01
"""Recall that centering must gain: an uncentered code is simpler, and with most models the mean is short."""
UNBOUNDED = math.inf
"""CPU seconds of a fit that nothing bounds."""
AXES_OF_A_FIT = 2
"""How often a bounded fit computes principal axes."""
LONG_MEAN = 0.2
"""Where the mean of unit rows is shorter, centering cannot gain its margin."""
SIZE_STEP_BYTES = 4
"""Step between the sizes that `fit_target` tries."""


def fit_bytes(
    embeddings: ArrayLike,
    code_size_bytes: int,
    progress: Progress | None = None,
    *,
    rescore_bytes: int = 0,
    cpu_seconds: float = UNBOUNDED,
) -> tuple[Recurrent, FitReport]:
    """embeddings (rows, embedding_dims) of floats -> the binarizer of exactly `code_size_bytes`, and how it was chosen.

    rescore_bytes: size of the rescore code beside it; 0 for none. Its layout follows from what the code leaves over.
    The final binarizer is fitted to the held-out rows too. cpu_seconds: what the fit may cost, about. Where all of it
    would cost more, layouts are chosen by successive halving, with fewer rounds and rows; the report says so.
    Sums differ in their last digits with the number of BLAS threads, so another machine may choose a code that does
    about as well.
    Raises InvalidEmbeddings as `fit_recurrent` does, or when too few rows are left after holding some out;
    InvalidOption when no code of that size has as few dims as the embeddings.
    """
    trials = Trials(embeddings, progress, rescore_bytes=rescore_bytes)
    specs = list(candidates(code_size_bytes, trials.embedding_dims))
    seconds = estimate(len(trials.rows), trials.embedding_dims, specs)
    if seconds > cpu_seconds:
        return _fit_bounded(trials, specs, cpu_seconds)
    trials.total = _steps(specs) + 1
    return trials.keep(_best(trials, specs), seconds=seconds)


def estimate(rows: int, embedding_dims: int, specs: Sequence[CodeSpec]) -> float:
    """CPU seconds that a fit takes that nothing bounds."""
    return unbounded_seconds(specs, embedding_dims, rows, finals=min(FINALISTS, len(specs)), final=FINAL)


def _fit_bounded(trials: Trials, specs: Sequence[CodeSpec], cpu_seconds: float) -> tuple[Recurrent, FitReport]:
    """Choose by successive halving, and fit what was chosen, for about so many CPU seconds."""
    dims, queries, most = trials.embedding_dims, trials.queries, len(trials.rows)
    seconds = cpu_seconds - AXES_OF_A_FIT * axes_seconds(dims, most)
    centers = trials.mean_length > LONG_MEAN
    trials.total = len(specs) + sum(min(stage.most, len(specs)) for stage in STAGES[1:]) + centers + 1
    left, made, stage = list(specs), list[Trial](), STAGES[0]
    for number, planned in enumerate(STAGES):
        if made:
            wide = widest_first(made, dims, WIDE_SHARE)[: planned.most // 2]
            left = [CodeSpec.parse(code) for code in dict.fromkeys(t.code for t in [*wide, *made])][: planned.most]
        bounded = replace(planned.effort, rows=min(planned.effort.rows, most - queries))
        planned = replace(planned, effort=bounded, searched=min(planned.searched, most - queries))
        stage = paid_stage(planned, left, dims, queries, planned.share * seconds)
        last = number == len(STAGES) - 1
        made = [trials.staged(spec, stage.effort, stage.searched, last=last) for spec in left]
        made.sort(key=lambda trial: -trial.recall)
    best = widest_first(made, dims, WIDE_SHARE)[0]
    spec = CodeSpec.parse(best.code)
    if centers:
        centered = trials.staged(spec, stage.effort, stage.searched, last=True, center=True)
        best = centered if centered.recall > best.recall + CENTERING_MARGIN else best
    effort = paid_effort(spec, dims, replace(Effort(), rows=min(Effort().rows, most)), LAST_SHARE * seconds)
    return trials.keep(best, effort, cpu_seconds)


def fit_code(
    embeddings: ArrayLike,
    spec: CodeSpec,
    progress: Progress | None = None,
    nested: bool = False,
    *,
    rescore_bytes: int = 0,
) -> tuple[Recurrent, FitReport]:
    """Like `fit_bytes` with the layout given: only centering is chosen. Raises InvalidEmbeddings, InvalidOption.

    nested: the first blocks alone are to be a good code too; `Recurrent.prefix` gives their binarizers.
    """
    if nested and len(spec.blocks) < 2:
        raise InvalidOption(
            f"a nested code has at least two blocks, such as 128x2+128x2, got '{spec}'", option="nested"
        )
    trials = Trials(embeddings, progress, nested, rescore_bytes)
    if spec.dims > trials.embedding_dims:
        raise InvalidEmbeddings(
            f"'{spec}' has {spec.dims} dims, but the embeddings only {trials.embedding_dims}; choose a smaller code"
        )
    trials.total = 3
    return trials.keep(_best_finalist(trials, [spec], WIDE_SHARE))


def fit_target(
    embeddings: ArrayLike, target_recall: float, progress: Progress | None = None, *, rescore_bytes: int = 0
) -> tuple[Recurrent, FitReport]:
    """The smallest code, in steps of 4 bytes, whose recall on held-out rows is at least `target_recall`, not rescored.

    Raises InvalidOption when even the largest code, 4 bits for every dim, does not reach it; InvalidEmbeddings.
    """
    if not 0 < target_recall < 1:
        raise InvalidOption(f"a target recall lies between 0 and 1, got {target_recall}", option="target-recall")
    trials = Trials(embeddings, progress, rescore_bytes=rescore_bytes)
    dims = trials.embedding_dims
    sizes = list(range(SIZE_STEP_BYTES, dims // 2 + 1, SIZE_STEP_BYTES))
    if not sizes:
        raise InvalidOption(f"embeddings of {dims} dims are too short", option="target-recall")
    # How often the sizes are halved; each size has about as many candidates.
    trials.total = len(sizes).bit_length() * _steps(list(candidates(sizes[len(sizes) // 2], dims))) + 1
    best: dict[int, Trial] = {}
    low, high = 0, len(sizes) - 1
    while low <= high:
        middle = (low + high) // 2
        best[middle] = _best(trials, list(candidates(sizes[middle], dims)), wide_share=0)
        low, high = (low, middle - 1) if best[middle].recall >= target_recall else (middle + 1, high)
    if low == len(sizes):
        raise InvalidOption(
            f"no code reaches a recall of {target_recall}: the largest, {best[low - 1].code}, has "
            f"{best[low - 1].recall:.3f} with {sizes[-1]} bytes",
            option="target-recall",
        )
    return trials.keep(best[low])


def _steps(specs: Sequence[CodeSpec]) -> int:
    """How many trials `_best` makes of this many specs."""
    return len(specs) + min(FINALISTS, len(specs)) + 1


def _best(trials: Trials, specs: Sequence[CodeSpec], wide_share: float = WIDE_SHARE) -> Trial:
    """The best of these specs of one size; of those that find about as much the widest."""
    made = sorted((trials.cheap(spec) for spec in specs), key=lambda trial: -trial.recall)
    chosen = [*widest_first(made, trials.embedding_dims, wide_share)[:WIDE_FINALISTS], *made]
    finalists = list(dict.fromkeys(trial.code for trial in chosen))[:FINALISTS]
    return _best_finalist(trials, [CodeSpec.parse(code) for code in finalists], wide_share)


def _best_finalist(trials: Trials, specs: Sequence[CodeSpec], wide_share: float) -> Trial:
    """Measure each spec well, choose as `_best` does, and measure what was chosen with centering."""
    made = [trials.final(spec) for spec in specs]
    best = widest_first(made, trials.embedding_dims, wide_share)[0]
    centered = trials.final(CodeSpec.parse(best.code), center=True)
    return centered if centered.recall > best.recall + CENTERING_MARGIN else best


def widest_first(trials: Sequence[Trial], embedding_dims: int, share: float) -> list[Trial]:
    """The trials that are near enough to the highest recall: the widest first, of equally wide ones the best.

    share: of what the best misses, how much more a wider one may miss.
    """
    best, enough = max(trial.recall for trial in trials), WIDE_ENOUGH * embedding_dims
    least = best - min(MAX_WIDE_MARGIN, share * (1 - best))
    good = [trial for trial in trials if trial.recall >= least]
    return sorted(good, key=lambda trial: (-min(CodeSpec.parse(trial.code).dims, enough), -trial.recall))
