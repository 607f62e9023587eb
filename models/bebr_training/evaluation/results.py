"""What an evaluation returns: one row for each method, scorer and size, and who leads at each size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from bebr.core.scoring import Scorer
from bebr_training.search.metrics import Estimate


class Kind(StrEnum):
    """What a row of the table is."""

    CODE = "code"
    BASELINE = "baseline"
    BOUND = "bound"
    FLOAT = "float"


@dataclass(frozen=True)
class Row:
    """One method with one scorer.

    size_bytes: of a document; for a baseline the budget, of which it may use a little less (`used_bytes`).
    ndcg_10, ndcg_kept: None without judgements; the second is the share of what float reaches.
    lead: recall@10 of the best code of that size (at a bound the best with its scorer) minus that of this row, on the
    same queries; baselines and bound only.
    """

    method: str
    kind: Kind
    scorer: Scorer | None
    size_bytes: int
    used_bytes: float
    detail: str
    recall_10: Estimate
    recall_100: Estimate
    ndcg_10: Estimate | None
    ndcg_kept: Estimate | None
    lead: Estimate | None = None


@dataclass(frozen=True)
class Evaluation:
    """All rows of one collection. judged: how many of the queries have judgements."""

    collection: str
    documents: int
    dims: int
    queries: int
    judged: int
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as plain values."""
        return asdict(self)


def best_code(rows: Sequence[Row], size_bytes: int) -> Row | None:
    """The bundle or fit of that size with the highest recall@10; None where there is none."""
    codes = [row for row in rows if row.kind is Kind.CODE and row.size_bytes == size_bytes]
    return max(codes, key=lambda row: row.recall_10.mean, default=None)


def verdicts(evaluation: Evaluation) -> list[str]:
    """One sentence for each size that has both codes and baselines: how far the best code is above all of them."""
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
            found.append(f"{start} is above every baseline, the nearest being {against}")
        elif lead.mean > 0:
            found.append(f"{start} is above every baseline, but within the interval of {against}")
        else:
            found.append(f"{start} is not above {against}")
    return found
