"""What a fit costs, and how it stays within so many CPU seconds: of layouts, rounds and rows as many as they pay for.

Costs are counted in products of matrices, which is nearly all that a fit does, at a rate that most machines reach. So
the same rows give the same fit, however busy the machine is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bebr.core.codes import CodeSpec
from bebr.encoding.quantization.recurrent_fit import CHEAP, Effort

OPERATIONS_PER_SECOND = 42e9
"""Of one core, in products of float32 matrices with all that goes with them."""
LEAST_CPU_SECONDS, CPU_SECONDS_PER_DIM = 60.0, 5 / 64
ELEMENT_OPERATIONS = 60
"""One loop over a matrix of codes costs as much as so many operations for each of its numbers."""
AXES_OPERATIONS = 25
"""Times dims^3: principal axes."""
LEAST_ROWS = 2_000
"""Fewer rows are not fitted to, whatever that costs."""
SHRINK = 0.8
"""An effort is made so much smaller at a time until it is paid for."""
LEAST_ROUNDS = 0.13
"""Share of the rounds of the last fit that is kept before rows are left out."""


def default_cpu_seconds(embedding_dims: int) -> float:
    """What a fit may cost where nobody says: 60 s, 120 s for 1,536 dims, 240 s for 3,072."""
    return max(LEAST_CPU_SECONDS, embedding_dims * CPU_SECONDS_PER_DIM)


@dataclass(frozen=True)
class Stage:
    """One round of the choice: so many layouts are fitted and measured."""

    most: int
    """How many, at most."""
    effort: Effort
    searched: int
    """Rows that queries search, at most."""
    share: float
    """Of the CPU seconds."""


STAGES = (
    Stage(100, Effort(warm=6, full=1, rows=4_000), 3_000, 0.22),
    Stage(5, Effort(warm=10, full=2, rows=CHEAP.rows), 6_000, 0.2),
    Stage(2, Effort(warm=15, full=4, rows=15_000), 50_000, 0.2),
)
"""Successive halving: many layouts with little effort, then the best of them with more."""
LAST_SHARE = 0.34
"""Share of the CPU seconds that the fit of what was chosen may take."""


def fit_seconds(spec: CodeSpec, embedding_dims: int, effort: Effort) -> float:
    """CPU seconds of one fit, without its principal axes."""
    n, rows = spec.dims, effort.rows
    loop, products = 2 * n * n + ELEMENT_OPERATIONS * n, 4 * n * embedding_dims + 2 * n * n
    warm = effort.warm * (rows * (products + loop) + n**3)
    full = effort.full * (rows * (products + 5 * loop) + 3 * n**3)
    return (rows * 2 * n * embedding_dims + warm + full) / OPERATIONS_PER_SECOND


def encode_seconds(spec: CodeSpec, embedding_dims: int, rows: int) -> float:
    """CPU seconds that codes of so many rows take."""
    n = spec.dims
    return rows * (8 * (2 * n * n + ELEMENT_OPERATIONS * n) + 4 * n * embedding_dims) / OPERATIONS_PER_SECOND


def axes_seconds(embedding_dims: int, rows: int) -> float:
    """CPU seconds of the principal axes of so many rows."""
    return (AXES_OPERATIONS * embedding_dims**3 + 2 * rows * embedding_dims**2) / OPERATIONS_PER_SECOND


def trial_seconds(spec: CodeSpec, embedding_dims: int, effort: Effort, searched: int, queries: int) -> float:
    """CPU seconds of fitting and measuring one layout, without its principal axes."""
    scan = 2 * searched * queries * spec.dims / OPERATIONS_PER_SECOND
    return fit_seconds(spec, embedding_dims, effort) + encode_seconds(spec, embedding_dims, searched) + scan


def unbounded_seconds(
    specs: Sequence[CodeSpec], embedding_dims: int, rows: int, *, finals: int, final: Effort
) -> float:
    """CPU seconds of a choice that tries everything: all specs with little effort, the finalists with more."""
    dear = sorted(specs, key=lambda spec: -spec.dims)[:finals]
    queries = min(1_000, rows // 5)
    cheap = replace(CHEAP, rows=min(CHEAP.rows, rows))
    final, last = replace(final, rows=min(final.rows, rows)), replace(Effort(), rows=min(Effort().rows, rows))
    total = sum(trial_seconds(spec, embedding_dims, cheap, cheap.rows, queries) for spec in specs)
    total += sum(trial_seconds(spec, embedding_dims, final, rows, queries) for spec in [*dear, dear[0]])
    total += fit_seconds(dear[0], embedding_dims, last)
    return total + (len(specs) + finals + 2) * axes_seconds(embedding_dims, cheap.rows)


def scaled(effort: Effort, factor: float) -> Effort:
    """A smaller effort: fewer rounds, and down to LEAST_ROWS of the rows."""
    rows = max(min(LEAST_ROWS, effort.rows), int(effort.rows * factor))
    return Effort(warm=round(effort.warm * factor), full=int(effort.full * factor + 0.3), rows=rows)


def paid_stage(stage: Stage, specs: Sequence[CodeSpec], embedding_dims: int, queries: int, seconds: float) -> Stage:
    """The stage with as much effort as so many CPU seconds pay for."""
    factor, paid = 1.0, stage
    while True:
        cost = sum(trial_seconds(spec, embedding_dims, paid.effort, paid.searched, queries) for spec in specs)
        if cost <= seconds or factor < 0.05:
            return paid
        factor *= SHRINK
        searched = max(min(LEAST_ROWS, stage.searched), int(stage.searched * factor))
        paid = replace(stage, effort=scaled(stage.effort, factor), searched=searched)


def paid_effort(spec: CodeSpec, embedding_dims: int, effort: Effort, seconds: float) -> Effort:
    """As much of an effort as so many CPU seconds pay for: rounds are left out first, then rows."""
    factor, paid = 1.0, effort
    while fit_seconds(spec, embedding_dims, paid) > seconds and factor > 0.05:
        factor *= SHRINK
        paid = scaled(effort, factor)
        if factor >= LEAST_ROUNDS:
            paid = replace(paid, rows=effort.rows)
    return paid
