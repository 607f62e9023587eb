"""Chooses blocks and centring for a size in bytes by what is measured: recall@10 of adc on rows held out of the fit.

Which blocks are best differs by collection and by embedding model, so nothing is assumed. Held-out rows are queries;
the rest is what they search, and what the binarizer is fitted to. Their float neighbours by cosine are the truth.
Candidates are a family that covers the size, from few dims of many bits to many of few. All run a cheap round; the best
few meet again with more rows and rounds, and the best of them once more with its mean taken out.

Of codes that do about as well the widest is taken, up to three quarters of the embedding's dims. Rows stand in for
queries, and real queries lie where rows do not; what a code leaves out of them is lost. Over several fits codes of few
dims keep less of the floats' nDCG@10 (`bench.widths`): at 32 bytes 94.6, 97.4 and 95.6 % with 256 dims, 89.9, 95.7 and
91.1 % with 96. Beyond three quarters of the dims nothing more is kept, and recall falls.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.encoding.quantization.recurrent_fit import CHEAP, Effort, fit_unit_rows
from bebr.encoding.quantization.rows import sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings, InvalidOption, InvalidSpec

RECALL_AT = 10
MAX_QUERIES = 1_000
MAX_SEARCHED_ROWS = 50_000
CHEAP_SEARCHED_ROWS = 6_000
FINALISTS = 5
WIDE_FINALISTS = 2
"""So many are the widest that do about as well; the others are the best."""
FINAL = Effort(warm=15, full=4, rows=15_000)
"""Enough to tell finalists apart; the binarizer that is kept gets the full effort."""
WIDE_SHARE = 0.1
"""A wider code may miss so much more of what the best misses: where little is missed, little may be added."""
MAX_WIDE_MARGIN = 0.008
"""Recall on held-out rows that it may lack at most."""
WIDE_ENOUGH = 3 / 4
"""Share of the embedding's dims from which codes count as equally wide."""
CENTRING_MARGIN = 0.01
"""What centring must gain: an uncentred code is simpler, and with most models the mean is short."""
CENTRED_WEIGHT = 0.5
"""Weight of the errors of centred fits: queries still hold the mean, so an error along it costs most."""
SHRINKS = (0.0, 0.5)
SHRINK_MARGIN = 0.004
"""What shrinking must gain. It finds more neighbours of queries like the rows, because rows that are badly encoded
stand back; but some of these are what other queries look for. recall@10 and nDCG@10 kept at 0, 0.5 and 1, 256x1:
climate-fever .769 .779 .782 and 95.6 95.0 94.2 %, State of the Union addresses .711 .716 .717 and 91.4 88.3 85.0 %."""
QUERY_BATCH = 128
SEED = 0
FOUR_BIT_SHARES = (0, 1 / 4, 1 / 2, 3 / 4, 1)
"""Shares of the bits of a code that its 4-bit block may take; the next list is for 1-bit blocks."""
ONE_BIT_SHARES = (0, 1 / 4, 1 / 2, 1)

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what was just measured)."""


@dataclass(frozen=True)
class Trial:
    """One binarizer that was fitted and measured. cheap: with little effort, to be compared with its like only.

    prefixes: of a nested code, the recall of its first block, of its first two, and so on, less the whole.
    """

    code: str
    centred: bool
    shrink: float
    cheap: bool
    rows: int
    recall: float
    prefixes: tuple[float, ...] = ()


@dataclass(frozen=True)
class FitReport:
    """What was measured on the way to the choice. recall: of the chosen binarizer on held-out queries."""

    chosen: Trial
    queries: int
    recall_at: int
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values, fit for the figures of a bundle."""
        return asdict(self)


def fit_bytes(
    embeddings: ArrayLike, code_size_bytes: int, progress: Progress | None = None
) -> tuple[Recurrent, FitReport]:
    """embeddings (rows, embedding_dims) of floats -> the binarizer of exactly `code_size_bytes`, and how it was chosen.

    The final binarizer is fitted to the held-out rows too. Takes two minutes at most: of very many rows a sample.
    Sums differ in their last digits with the number of BLAS threads, so another machine may choose a code that does
    about as well.
    Raises InvalidEmbeddings as `fit_recurrent` does, or when too few rows are left after holding some out;
    InvalidOption when no code of that size has as few dims as the embeddings.
    """
    bench = _Bench(embeddings, progress)
    specs = bench.plan([code_size_bytes])
    return bench.keep(bench.compare(specs[code_size_bytes]))


def fit_code(
    embeddings: ArrayLike, spec: CodeSpec, progress: Progress | None = None, nested: bool = False
) -> tuple[Recurrent, FitReport]:
    """Like `fit_bytes` with the code named: only centring is chosen. Raises InvalidEmbeddings, InvalidOption.

    nested: the first blocks alone are to be a good code too; `Recurrent.prefix` gives their binarizers.
    """
    if nested and len(spec.blocks) < 2:
        raise InvalidOption(
            f"a nested code has at least two blocks, such as 128x2+128x2, got '{spec}'", option="nested"
        )
    bench = _Bench(embeddings, progress, nested)
    _check_dims(spec, bench.rows.shape[1])
    bench.total = 3
    return bench.keep(bench.finals([spec]))


def fit_target(
    embeddings: ArrayLike, target_recall: float, progress: Progress | None = None
) -> tuple[Recurrent, FitReport]:
    """The smallest code, in steps of 4 bytes, whose recall on held-out rows is at least `target_recall`.

    Raises InvalidOption when even the largest code, 4 bits for every dim, does not reach it; InvalidEmbeddings.
    """
    if not 0 < target_recall < 1:
        raise InvalidOption(f"a target recall lies between 0 and 1, got {target_recall}", option="target-recall")
    bench = _Bench(embeddings, progress)
    sizes = list(range(4, bench.rows.shape[1] // 2 + 1, 4))
    if not sizes:
        raise InvalidOption(f"embeddings of {bench.rows.shape[1]} dims are too short", option="target-recall")
    bench.plan(
        [sizes[len(sizes) // 2]] * len(sizes).bit_length()
    )  # so many halvings; each size has about as many specs
    best: dict[int, Trial] = {}
    low, high = 0, len(sizes) - 1
    while low <= high:
        middle = (low + high) // 2
        best[middle] = bench.compare(list(candidates(sizes[middle], bench.rows.shape[1])), wide_share=0)
        low, high = (low, middle - 1) if best[middle].recall >= target_recall else (middle + 1, high)
    if low == len(sizes):
        raise InvalidOption(
            f"no code reaches a recall of {target_recall}: the largest, {best[low - 1].code}, has "
            f"{best[low - 1].recall:.3f} with {sizes[-1]} bytes",
            option="target-recall",
        )
    return bench.keep(best[low])


def candidates(code_size_bytes: int, embedding_dims: int) -> Iterator[CodeSpec]:
    """Specs of exactly that size with at most as many dims as the embeddings. Raises InvalidOption if there is none."""
    if code_size_bytes < 1:
        raise InvalidOption(f"a code has at least 1 byte, got {code_size_bytes}", option="bytes")
    splits = [(four, one) for four in FOUR_BIT_SHARES for one in ONE_BIT_SHARES if four + one <= 1]
    found = [_from_bytes(round(f * code_size_bytes), round(o * code_size_bytes), code_size_bytes) for f, o in splits]
    fitting = [spec for spec in dict.fromkeys(found) if spec is not None and spec.dims <= embedding_dims]
    if not fitting:
        raise InvalidOption(
            f"no code of {code_size_bytes} bytes has as few as the {embedding_dims} dims of the embeddings; "
            f"the largest is {embedding_dims * 4 // 8} bytes",
            option="bytes",
        )
    yield from fitting


def _check_dims(spec: CodeSpec, embedding_dims: int) -> None:
    if spec.dims > embedding_dims:
        raise InvalidEmbeddings(
            f"'{spec}' has {spec.dims} dims, but the embeddings only {embedding_dims}; choose a smaller code"
        )


def _from_bytes(four_bit_bytes: int, one_bit_bytes: int, code_size_bytes: int) -> CodeSpec | None:
    """The spec whose blocks of 4, 2 and 1 bits take these bytes, the 2-bit block what is left; None if it has none.

    Whole 32-bit words where the size allows it, because the kernel pads every block to words.
    """
    if code_size_bytes % 4 == 0:
        four_bit_bytes, one_bit_bytes = four_bit_bytes // 4 * 4, one_bit_bytes // 4 * 4
    two_bit_bytes = code_size_bytes - four_bit_bytes - one_bit_bytes
    if two_bit_bytes < 0:
        return None
    blocks = [(2 * four_bit_bytes, 4), (4 * two_bit_bytes, 2), (8 * one_bit_bytes, 1)]
    try:
        return CodeSpec.parse("+".join(f"{dims}x{bits}" for dims, bits in blocks if dims))
    except InvalidSpec:  # More dims than any code may have.
        return None


class _Bench:
    """The rows of one fit, split into queries and what they search, and every trial that was made on them."""

    def __init__(self, embeddings: ArrayLike, progress: Progress | None, nested: bool = False) -> None:
        rng = np.random.default_rng(SEED)
        self.rows = unit_rows(sample_rows(embeddings, rng))
        self.trials: list[Trial] = []
        self.total = 0
        self._progress = progress
        self._nested = nested
        order = rng.permutation(len(self.rows))
        query_count = min(MAX_QUERIES, len(order) // 5)
        queries, searched = np.split(self.rows[order[: query_count + MAX_SEARCHED_ROWS]], [query_count])
        least = max(self.rows.shape[1], 10 * RECALL_AT)
        if len(searched) < least:
            raise InvalidEmbeddings(
                f"{len(order)} rows are too few to choose by measurement: a fifth is held out, and at least {least} "
                "must be left; give more rows",
                rows=len(order),
            )
        self._full = _Truth(queries, searched, _nearest(queries, searched))
        self._cheap = self._full.first(max(CHEAP_SEARCHED_ROWS, self.rows.shape[1]))

    def plan(self, sizes: Sequence[int]) -> dict[int, list[CodeSpec]]:
        """The candidates of every size, and how many trials there will be."""
        specs = {size: list(candidates(size, self.rows.shape[1])) for size in sizes}
        self.total = sum(len(specs[size]) + min(FINALISTS, len(specs[size])) + 1 for size in sizes) + 1
        return specs

    def compare(self, specs: Sequence[CodeSpec], wide_share: float = WIDE_SHARE) -> Trial:
        """The best of these specs of one size; of those that find about as much the widest."""
        trials = sorted((self._measure(spec, False, self._cheap, CHEAP) for spec in specs), key=lambda t: -t.recall)
        chosen = [*self._widest_first(trials, wide_share)[:WIDE_FINALISTS], *trials]
        finalists = list(dict.fromkeys(trial.code for trial in chosen))[:FINALISTS]
        return self.finals([CodeSpec.parse(code) for code in finalists], wide_share)

    def finals(self, specs: Sequence[CodeSpec], wide_share: float = WIDE_SHARE) -> Trial:
        """Measure each spec well, choose as `compare` does, and measure what was chosen with centring."""
        best = self._widest_first([self._measure(spec, False, self._full, FINAL) for spec in specs], wide_share)[0]
        centred = self._measure(CodeSpec.parse(best.code), True, self._full, FINAL)
        return centred if centred.recall > best.recall + CENTRING_MARGIN else best

    def keep(self, chosen: Trial) -> tuple[Recurrent, FitReport]:
        """Fit what was chosen to all rows."""
        binarizer = self._fit(self.rows, CodeSpec.parse(chosen.code), chosen.centred, Effort())
        binarizer = replace(binarizer, shrink=chosen.shrink)
        self._tell(self.total, f"{chosen.code} fitted to all {len(self.rows):,} rows")
        return binarizer, FitReport(chosen, len(self._full.queries), RECALL_AT, tuple(self.trials))

    def _widest_first(self, trials: Sequence[Trial], share: float) -> list[Trial]:
        """The trials that are near enough to the highest recall: the widest first, of equally wide ones the best."""
        best, enough = max(trial.recall for trial in trials), WIDE_ENOUGH * self.rows.shape[1]
        least = best - min(MAX_WIDE_MARGIN, share * (1 - best))
        good = [trial for trial in trials if trial.recall >= least]
        return sorted(good, key=lambda trial: (-min(CodeSpec.parse(trial.code).dims, enough), -trial.recall))

    def _measure(self, spec: CodeSpec, centre: bool, truth: "_Truth", effort: Effort) -> Trial:
        """Fit to the searched rows and measure the recall of adc."""
        binarizer = self._fit(truth.searched, spec, centre, effort)
        shrinks = SHRINKS[:1] if effort is CHEAP else SHRINKS
        recalls = [truth.recall(replace(binarizer, shrink=shrink)) for shrink in shrinks]
        best = int(np.argmax([recalls[0] + SHRINK_MARGIN, *recalls[1:]]))
        recall = recalls[best]
        shorter = [binarizer.prefix(blocks) for blocks in range(1, len(spec.blocks))] if self._nested else []
        prefixes = tuple(round(truth.recall(replace(prefix, shrink=shrinks[best])), 4) for prefix in shorter)
        trial = Trial(
            str(spec), centre, shrinks[best], effort is CHEAP, len(truth.searched), round(recall, 4), prefixes
        )
        self.trials.append(trial)
        centring = "centred" if centre else "not centred"
        self._tell(len(self.trials), f"{spec} {centring}: recall@{RECALL_AT} {recall:.3f}")
        return trial

    def _fit(self, rows: Floats, spec: CodeSpec, centre: bool, effort: Effort) -> Recurrent:
        return fit_unit_rows(
            rows,
            spec,
            centre=centre,
            weight=CENTRED_WEIGHT if centre else 0.0,
            nested=self._nested,
            effort=effort,
            rng=np.random.default_rng(SEED),
        )

    def _tell(self, done: int, label: str) -> None:
        if self._progress is not None:
            self._progress(min(done, self.total), self.total, label)


@dataclass(frozen=True)
class _Truth:
    """Queries, the rows that they search, and their nearest rows (queries, RECALL_AT) by float cosine."""

    queries: Floats
    searched: Floats
    nearest: NDArray[np.int64]

    def first(self, rows: int) -> "_Truth":
        """The same queries on the first `rows` rows."""
        searched = self.searched[:rows]
        return _Truth(self.queries, searched, _nearest(self.queries, searched))

    def recall(self, binarizer: Recurrent) -> float:
        """Recall of adc."""
        found = _nearest(binarizer.project(self.queries), binarizer.quantized_values(self.searched))
        # No row number stands twice in one answer, so after sorting both together neighbours that are equal are shared.
        both = np.sort(np.hstack([found, self.nearest]), axis=1)
        return float((both[:, 1:] == both[:, :-1]).sum() / found.size)


def _nearest(queries: Floats, rows: Floats) -> NDArray[np.int64]:
    """(queries, RECALL_AT) int64: the rows of the largest inner products, in no order."""
    nearest = np.empty((len(queries), RECALL_AT), np.int64)
    for start in range(0, len(queries), QUERY_BATCH):
        batch = slice(start, start + QUERY_BATCH)
        nearest[batch] = np.argpartition(-(queries[batch] @ rows.T), RECALL_AT, axis=1)[:, :RECALL_AT]
    return nearest
