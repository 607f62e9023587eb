"""The result of an evaluation: one row per method, scorer and size, and the best method at each size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bebr.core.scoring import Scorer
from bebr_training.search.metrics import Estimate


class Kind(StrEnum):
    """What a row of the table is about."""

    CODE = "code"
    BASELINE = "baseline"
    BOUND = "bound"
    FLOAT = "float"


@dataclass(frozen=True)
class Row:
    """One method with one scorer."""

    method: str
    """Its label."""
    kind: Kind
    scorer: Scorer | None
    """None for plain floats."""
    size_bytes: int
    """Bytes per document; for a baseline the budget."""
    used_bytes: float
    """Bytes per document that are used, which may be a little less than the budget."""
    detail: str
    """Its setting, in words."""
    recall_10: Estimate
    recall_100: Estimate
    ndcg_10: Estimate | None
    """None without relevance judgments."""
    ndcg_kept: Estimate | None
    """Ratio to the nDCG of plain floats; None without relevance judgments."""
    lead: Estimate | None = None
    """Of baselines and bounds: recall@10 of the best code of that size minus that of this row, on the same queries.

    Against a bound, the best code with the same scorer. Rescored codes do not count.
    """
    disk_bytes: int = 0
    """Bytes per document of the rescore code, where that ranks the candidates; these are not in memory."""


@dataclass(frozen=True)
class Evaluation:
    """All rows of one collection."""

    collection: str
    documents: int
    """Number of documents."""
    dims: int
    queries: int
    """Number of queries."""
    judged: int
    """Number of queries with relevance judgments."""
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""
        return asdict(self)


def best_code(rows: Sequence[Row], size_bytes: int) -> Row | None:
    """The code of that size with the highest recall@10, not rescored; or None."""
    codes = [row for row in rows if row.kind is Kind.CODE and row.size_bytes == size_bytes and not row.disk_bytes]
    return max(codes, key=lambda row: row.recall_10.mean, default=None)


def verdicts(evaluation: Evaluation) -> list[str]:
    """One sentence for each size with codes and baselines: how the best code compares with the best baseline."""
    found = []
    for size_bytes in sorted({row.size_bytes for row in evaluation.rows}):
        code = best_code(evaluation.rows, size_bytes)
        rivals = [row for row in evaluation.rows if row.kind is Kind.BASELINE and row.size_bytes == size_bytes]
        leads = [(row.lead, row) for row in rivals if row.lead is not None]
        if code is None or not leads:
            continue
        lead, rival = min(leads, key=lambda pair: pair[0].mean)
        start = f"{evaluation.collection}, {size_bytes} bytes: {code.method} ({code.detail})"
        against = f"{rival.method} ({lead.mean:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}])"
        if all(pair[0].low > 0 for pair in leads):
            found.append(f"{start} is above every baseline; the closest is {against}")
        elif lead.mean > 0:
            found.append(f"{start} is above every baseline, but not significantly above {against}")
        else:
            found.append(f"{start} is not above {against}")
    return found
