"""Fits binarizers to some rows and measures each on others: recall@10 of adc on rows held out of the fit.

Held-out rows are the queries; the rest is what they search, and what the binarizer is fitted to. Their float neighbors
by cosine are the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.arrays import Floats
from bebr.core.codes import CodeSpec, code_values
from bebr.encoding.progress import Progress, silent
from bebr.encoding.quantization.measuring import RECALL_AT, Coder
from bebr.encoding.quantization.recurrent import RESCORED_HARDNESS, Recurrent
from bebr.encoding.quantization.recurrent_fit import CHEAP, Effort, fit_unit_rows
from bebr.encoding.quantization.rescored import Rescored, measure_rescored
from bebr.encoding.quantization.residual import Residual, check_rescore_size, fit_residual
from bebr.encoding.quantization.rows import Axes, principal_axes, sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings

MAX_QUERIES = 1_000
HELD_OUT_ONE_IN = 5
"""One of this many rows is held out, up to MAX_QUERIES."""
MAX_SEARCHED_ROWS = 50_000
CHEAP_SEARCHED_ROWS = 6_000
FINAL = Effort(warm=15, full=4, rows=15_000)
"""Enough to tell finalists apart; the binarizer that is kept gets the full effort."""
CENTERED_WEIGHT = 0.5
"""Weight of the errors of centered fits: queries still hold the mean, so an error along it costs most."""
SHRINKS = (0.0, 0.5)
"""Values of `Recurrent.shrink` that are tried."""
SHRINK_MARGIN = 0.004
"""Recall that shrinking must gain. It finds more neighbors of queries like the rows, because rows that are badly
encoded rank lower; but other queries look for some of these (docs/benchmarks.md#shrink)."""
QUERY_BATCH = 128
SEED = 0


@dataclass(frozen=True)
class Trial:
    """One binarizer that was fitted and measured."""

    code: str
    """Its CodeSpec."""
    centered: bool
    """Whether it was fitted with the mean taken out."""
    shrink: float
    """The best of SHRINKS."""
    cheap: bool
    """Whether it was fitted with little effort: then it compares only with trials that were too."""
    rows: int
    """Number of rows that the queries searched."""
    recall: float
    """recall@10 of adc on the held-out queries."""
    fitted_to: int = 0
    """Number of rows that it was fitted to."""
    prefixes: tuple[float, ...] = ()
    """Of a nested code: the recall of its first block, of its first two, and so on, without the whole."""


@dataclass(frozen=True)
class FitReport:
    """How a binarizer was chosen."""

    chosen: Trial
    queries: int
    """Number of held-out queries."""
    recall_at: int
    trials: tuple[Trial, ...]
    """All that were measured, in order."""
    rescored: Rescored | None = None
    """What the rescore code adds, where there is one."""
    rows: int = 0
    """Number of rows that were given."""
    fitted_to: int = 0
    """Number of rows that the binarizer was fitted to: fewer where the CPU seconds did not pay for all."""
    estimated_cpu_seconds: float = 0.0
    """What the fit was estimated to cost."""


class Trials:
    """The rows of one fit, split into queries and what they search, and every trial that was made on them."""

    def __init__(
        self, embeddings: ArrayLike, progress: Progress | None, nested: bool = False, rescore_bytes: int = 0
    ) -> None:
        """nested: fit codes whose first blocks are good codes too. rescore_bytes: size of the rescore code of what is
        kept; 0 for none. Raises InvalidEmbeddings, InvalidOption."""
        rng = np.random.default_rng(SEED)
        self.rows = unit_rows(sample_rows(embeddings, rng))
        """(rows, embedding_dims) float32, all of them."""
        self.total = 0
        """How many steps there will be, for the progress."""
        self.queries = 0
        """How many rows are held out."""
        self._axes: Axes | None = None
        """Principal axes of all rows, where trials share them."""
        self._made: list[Trial] = []
        self._finalists: dict[Trial, Recurrent] = {}
        self._progress = progress or silent
        self._nested = nested
        self._rescore_bytes = rescore_bytes
        if rescore_bytes:
            check_rescore_size(rescore_bytes, self.embedding_dims)
        order = rng.permutation(len(self.rows))
        query_count = held_out_rows(len(order))
        queries, searched = np.split(self.rows[order[: query_count + MAX_SEARCHED_ROWS]], [query_count])
        least = least_searched_rows(self.rows.shape[1])
        if len(searched) < least:
            raise InvalidEmbeddings(
                f"{len(order)} rows are too few to choose by measurement: a fifth is held out, and at least {least} "
                "must be left; give more rows",
                rows=len(order),
            )
        self.queries = len(queries)
        self._full = _Truth(queries, searched, _nearest(queries, searched))
        self._parts: dict[int, _Truth] = {}

    @property
    def embedding_dims(self) -> int:
        return int(self.rows.shape[1])

    def cheap(self, spec: CodeSpec) -> Trial:
        """Measure a spec with little effort, to compare it with others."""
        return self._measure(spec, False, self._part(max(CHEAP_SEARCHED_ROWS, self.embedding_dims)), CHEAP)

    def final(self, spec: CodeSpec, *, center: bool = False) -> Trial:
        """Measure a spec well. center: with the mean taken out."""
        return self._measure(spec, center, self._full, FINAL)

    def staged(self, spec: CodeSpec, effort: Effort, searched: int, *, last: bool, center: bool = False) -> Trial:
        """Measure a spec with so much effort among so many rows. Trials share their principal axes.

        last: whether what is measured may be kept.
        """
        self.share_axes()
        truth = self._part(searched)
        return self._measure(spec, center, truth, effort, self._full.searched, cheap=not last)

    def share_axes(self) -> None:
        """From now on trials begin with the principal axes of all rows."""
        if self._axes is None:
            self._axes = principal_axes(self.rows)

    @property
    def mean_length(self) -> float:
        """Length of the mean of the rows."""
        return float(np.linalg.norm(self.rows.mean(axis=0, dtype=np.float64)))

    def _part(self, searched: int) -> "_Truth":
        if searched >= len(self._full.searched):
            return self._full
        if searched not in self._parts:
            self._parts[searched] = self._full.first(searched)
        return self._parts[searched]

    def recall_of(self, coder: Coder) -> float:
        """recall@10 of adc of any codes, on the rows and queries of `final`."""
        values = code_values(coder.encode(self._full.searched), coder.spec, coder.steps)
        return self._full.shared(_nearest(coder.project(self._full.queries), values))

    def keep(self, chosen: Trial, effort: Effort | None = None, seconds: float = 0.0) -> tuple[Recurrent, FitReport]:
        """Fit what was chosen to all rows, with full effort unless another one is given. seconds: the estimate."""
        binarizer = self._fit(self.rows, CodeSpec.parse(chosen.code), chosen.centered, effort or Effort())
        binarizer = replace(binarizer, shrink=chosen.shrink)
        rescored, fitted_to = None, min(len(self.rows), (effort or Effort()).rows)
        if self._rescore_bytes:
            binarizer = replace(binarizer, hardness=RESCORED_HARDNESS)
            rescored, residual = self._rescored(chosen)
            if effort is None:
                residual = fit_residual(self.rows, binarizer.left_over(self.rows), self._rescore_bytes)
            binarizer = replace(binarizer, residual=residual)
        all_of = "all " if fitted_to == len(self.rows) else f"{fitted_to:,} of "
        self._report(self.total, f"{binarizer.record_spec} fitted to {all_of}{len(self.rows):,} rows")
        return binarizer, FitReport(
            chosen,
            len(self._full.queries),
            RECALL_AT,
            tuple(self._made),
            rescored,
            rows=len(self.rows),
            fitted_to=fitted_to,
            estimated_cpu_seconds=round(seconds, 2),
        )

    def _rescored(self, chosen: Trial) -> tuple[Rescored, Residual]:
        """Measure the chosen code with a rescore code, both fitted to the searched rows alone."""
        binarizer, truth = replace(self._finalists[chosen], hardness=RESCORED_HARDNESS), self._part(chosen.rows)
        left = binarizer.left_over(truth.searched)
        residual = fit_residual(truth.searched, left, self._rescore_bytes, self._axes)
        finer = residual.decode(residual.quantized_values(left))
        return measure_rescored(truth.queries, truth.searched - left, finer, truth.nearest), residual

    def _measure(
        self,
        spec: CodeSpec,
        center: bool,
        truth: "_Truth",
        effort: Effort,
        rows: Floats | None = None,
        cheap: bool | None = None,
    ) -> Trial:
        """Fit to the searched rows, or others that are not queries, and measure the recall of adc."""
        rows, cheap = truth.searched if rows is None else rows, effort is CHEAP if cheap is None else cheap
        binarizer = self._fit(rows, spec, center, effort)
        shrinks = SHRINKS[:1] if cheap else SHRINKS
        recalls = truth.recalls(binarizer, shrinks)
        best = int(np.argmax([recalls[0] + SHRINK_MARGIN, *recalls[1:]]))
        shorter = [binarizer.prefix(blocks) for blocks in range(1, len(spec.blocks))] if self._nested else []
        trial = Trial(
            code=str(spec),
            centered=center,
            shrink=shrinks[best],
            cheap=cheap,
            rows=len(truth.searched),
            recall=round(recalls[best], 4),
            fitted_to=min(len(rows), effort.rows),
            prefixes=tuple(round(truth.recall(replace(prefix, shrink=shrinks[best])), 4) for prefix in shorter),
        )
        self._made.append(trial)
        if not cheap:
            self._finalists[trial] = replace(binarizer, shrink=trial.shrink)
        centering = "centered" if center else "not centered"
        self._report(len(self._made), f"{spec} {centering}: recall@{RECALL_AT} {recalls[best]:.3f}")
        return trial

    def _fit(self, rows: Floats, spec: CodeSpec, center: bool, effort: Effort) -> Recurrent:
        return fit_unit_rows(
            rows,
            spec,
            center=center,
            weight=CENTERED_WEIGHT if center else 0.0,
            nested=self._nested,
            effort=effort,
            rng=np.random.default_rng(SEED),
            axes=self._axes,
        )

    def _report(self, done: int, label: str) -> None:
        self._progress(min(done, self.total), self.total, label)


def held_out_rows(rows: int) -> int:
    """How many of these rows are held out as queries."""
    return min(MAX_QUERIES, rows // HELD_OUT_ONE_IN)


def least_searched_rows(embedding_dims: int) -> int:
    """How many rows must be left after holding some out: as many as dims, and enough to tell recall@10 apart."""
    return max(embedding_dims, 10 * RECALL_AT)


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

    def recalls(self, binarizer: Recurrent, shrinks: Sequence[float]) -> list[float]:
        """Recall of adc for each shrink. Codes are searched for once: gains alone differ."""
        projected, values = binarizer.project(self.queries), binarizer.quantized_values(self.searched)
        found = [self.shared(_nearest(projected, values))]
        for shrink in shrinks[1:]:
            factors = binarizer.shrink_factors(self.searched, values, shrink)
            found.append(self.shared(_nearest(projected, values * factors[:, None])))
        return found

    def recall(self, binarizer: Recurrent) -> float:
        """Recall of adc."""
        return self.shared(_nearest(binarizer.project(self.queries), binarizer.quantized_values(self.searched)))

    def shared(self, found: NDArray[np.int64]) -> float:
        """Share of the nearest rows among those found (queries, RECALL_AT)."""
        # No row number appears twice in one answer, so after sorting both together equal neighbors are shared ones.
        both = np.sort(np.hstack([found, self.nearest]), axis=1)
        return float((both[:, 1:] == both[:, :-1]).sum() / found.size)


def _nearest(queries: Floats, rows: Floats) -> NDArray[np.int64]:
    """(queries, RECALL_AT) int64: the rows of the largest inner products, in no order."""
    nearest = np.empty((len(queries), RECALL_AT), np.int64)
    for start in range(0, len(queries), QUERY_BATCH):
        batch = slice(start, start + QUERY_BATCH)
        nearest[batch] = np.argpartition(-(queries[batch] @ rows.T), RECALL_AT, axis=1)[:, :RECALL_AT]
    return nearest
