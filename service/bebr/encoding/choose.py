"""Chooses blocks and centring for a size in bytes by what is measured: recall@10 of adc on rows held out of the fit.

Which blocks are best differs by collection and by embedding model, so nothing is assumed. Held-out rows are queries;
the rest is what they search, and what the binarizer is fitted to. Their float neighbours by cosine are the truth.
Candidates are a family that covers the size, from few dims of many bits to many of few, and one that follows the
spectrum (reverse water-filling). All run a cheap round; the best few meet again with ITQ, with centring and without.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bebr.core.codes import CodeSpec
from bebr.encoding.closed_form import ClosedForm, Rotation, fit, principal_axes, sample_rows, unit_rows
from bebr.errors import InvalidEmbeddings, InvalidOption, InvalidSpec

RECALL_AT = 10
MAX_QUERIES = 1_000
MAX_SEARCHED_ROWS = 50_000
CHEAP_SEARCHED_ROWS = 5_000
FINALISTS = 3
CENTRING_MARGIN = 0.03
"""What centring must gain. It costs sdc much, recall of 0.1 and more where the mean is weak: with codes on both sides
nothing holds the product of the mean with each vector, which adc gets from its uncentred query."""
QUERY_BATCH = 128
SEED = 0
FOUR_BIT_SHARES = (0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)
"""Shares of the bits of a code that its 4-bit block may take; the next list is for 1-bit blocks."""
ONE_BIT_SHARES = (0, 1 / 8, 1 / 4, 1)

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what was just measured)."""


@dataclass(frozen=True)
class Trial:
    """One binarizer that was fitted and measured."""

    code: str
    centred: bool
    rotation: Rotation
    rows: int
    recall: float


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
) -> tuple[ClosedForm, FitReport]:
    """embeddings (rows, embedding_dims) of floats -> the binarizer of exactly `code_size_bytes`, and how it was chosen.

    The final binarizer is fitted to the held-out rows too. Takes tens of seconds at most: of very many rows a sample.
    Raises InvalidEmbeddings as `fit` does, or when too few rows are left after holding some out; InvalidOption when no
    code of that size has as few dims as the embeddings.
    """
    bench = _Bench(embeddings, progress)
    specs = list(candidates(code_size_bytes, bench.full.searched))
    finalists = min(FINALISTS, len(specs))
    bench.total = len(specs) + 2 * finalists
    cheap = bench.full.first(max(CHEAP_SEARCHED_ROWS, bench.rows.shape[1]))
    recall = {spec: bench.measure(spec, False, Rotation.RANDOM, cheap).recall for spec in specs}
    return bench.finals(sorted(specs, key=lambda spec: -recall[spec])[:finalists])


def fit_code(embeddings: ArrayLike, spec: CodeSpec, progress: Progress | None = None) -> tuple[ClosedForm, FitReport]:
    """Like `fit_bytes` with the code named: only centring is chosen. Raises InvalidEmbeddings."""
    bench = _Bench(embeddings, progress)
    bench.total = 2
    return bench.finals([spec])


def candidates(code_size_bytes: int, embeddings: NDArray[np.float32]) -> Iterator[CodeSpec]:
    """Specs of exactly that size with at most as many dims as the embeddings, each once. Raises InvalidOption if none.

    embeddings (rows, embedding_dims) float32, unit rows: their spectrum gives one of the specs.
    """
    if code_size_bytes < 1:
        raise InvalidOption(f"a code has at least 1 byte, got {code_size_bytes}", option="bytes")
    max_dims = embeddings.shape[1]
    splits = [(four, one) for four in FOUR_BIT_SHARES for one in ONE_BIT_SHARES if four + one <= 1]
    found = [_from_bytes(round(f * code_size_bytes), round(o * code_size_bytes), code_size_bytes) for f, o in splits]
    found.append(_water_filled(code_size_bytes, principal_axes(embeddings)[0]))
    fitting = [spec for spec in dict.fromkeys(found) if spec is not None and spec.dims <= max_dims]
    if not fitting:
        raise InvalidOption(
            f"no code of {code_size_bytes} bytes has as few as the {max_dims} dims of the embeddings; "
            f"the largest is {max_dims * 4 // 8} bytes",
            option="bytes",
        )
    yield from fitting


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


def _water_filled(code_size_bytes: int, variances: NDArray[np.float64]) -> CodeSpec | None:
    """The spec that gives each principal axis about 1/2 log2(variance / level) bits, rounded to 0, 1, 2 or 4.

    variances (embedding_dims,), widest first. The level is searched so that the bits fill the code.
    """
    logs = np.log2(np.maximum(variances, variances[0] * 1e-9)) / 2
    low, high = logs.min() - 5, logs.max()
    for _ in range(40):
        level = (low + high) / 2
        bits = logs - level
        used = 4 * (bits >= 3).sum() + 2 * ((bits >= 1.5) & (bits < 3)).sum() + ((bits >= 0.5) & (bits < 1.5)).sum()
        low, high = (level, high) if used > 8 * code_size_bytes else (low, level)
    bits = logs - high
    four, one = int((bits >= 3).sum()), int(((bits >= 0.5) & (bits < 1.5)).sum())
    return _from_bytes(four // 2, one // 8, code_size_bytes)


class _Bench:
    """The rows of one fit, split into queries and what they search, and every trial that was made on them."""

    def __init__(self, embeddings: ArrayLike, progress: Progress | None) -> None:
        rng = np.random.default_rng(SEED)
        self.rows = unit_rows(sample_rows(embeddings, rng))
        self.trials: list[Trial] = []
        self.total = 0
        self._progress = progress
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
        self.full = _Truth(queries, searched, _nearest(queries, searched))

    def measure(self, spec: CodeSpec, centre: bool, rotation: Rotation, truth: "_Truth") -> Trial:
        """Fit to the searched rows and measure the recall of adc."""
        binarizer = fit(truth.searched, spec, centre=centre, rotation=rotation, seed=SEED)
        found = _nearest(binarizer.project(truth.queries), binarizer.decode(truth.searched))
        # No row number stands twice in one answer, so after sorting both together neighbours that are equal are shared.
        both = np.sort(np.hstack([found, truth.nearest]), axis=1)
        recall = float((both[:, 1:] == both[:, :-1]).sum() / found.size)
        trial = Trial(str(spec), centre, rotation, len(truth.searched), round(recall, 4))
        self.trials.append(trial)
        if self._progress is not None:
            centring = "centred" if centre else "not centred"
            self._progress(len(self.trials), self.total, f"{spec} {centring}: recall@{RECALL_AT} {recall:.3f}")
        return trial

    def finals(self, specs: Sequence[CodeSpec]) -> tuple[ClosedForm, FitReport]:
        """Measure each spec with ITQ, with centring and without, and fit the best to all rows."""
        trials = [self.measure(spec, centre, Rotation.ITQ, self.full) for spec in specs for centre in (False, True)]
        chosen = max(trials, key=lambda trial: trial.recall - CENTRING_MARGIN * trial.centred)
        spec = CodeSpec.parse(chosen.code)
        binarizer = fit(self.rows, spec, centre=chosen.centred, rotation=chosen.rotation, seed=SEED)
        return binarizer, FitReport(chosen, len(self.full.queries), RECALL_AT, tuple(self.trials))


@dataclass(frozen=True)
class _Truth:
    """Queries, the rows that they search, and their nearest rows (queries, RECALL_AT) by float cosine."""

    queries: NDArray[np.float32]
    searched: NDArray[np.float32]
    nearest: NDArray[np.int64]

    def first(self, rows: int) -> "_Truth":
        """The same queries on the first `rows` rows."""
        searched = self.searched[:rows]
        return _Truth(self.queries, searched, _nearest(self.queries, searched))


def _nearest(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """(queries, RECALL_AT) int64: the rows of the largest inner products, in no order."""
    nearest = np.empty((len(queries), RECALL_AT), np.int64)
    for start in range(0, len(queries), QUERY_BATCH):
        batch = slice(start, start + QUERY_BATCH)
        nearest[batch] = np.argpartition(-(queries[batch] @ rows.T), RECALL_AT, axis=1)[:, :RECALL_AT]
    return nearest
