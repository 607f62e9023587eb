"""Evaluations as cells of a table, for the terminal, and as a Markdown page with the same cells."""

from collections.abc import Sequence

from bebr_training.evaluation.results import Evaluation, Kind, Row, verdicts
from bebr_training.search.metrics import CONFIDENCE, RESAMPLES, Estimate

COLUMNS = (
    "bytes", "method", "scorer", "setting", "on disk",
    "recall@10", "recall@100", "nDCG@10", "kept", "best code leads by",
)  # fmt: skip
RIGHT = ("bytes", "on disk", "recall@10", "recall@100", "nDCG@10", "kept", "best code leads by")
NOTES = (
    f"Brackets: {CONFIDENCE:.0%} bootstrap intervals over queries, {RESAMPLES:,} resamples. 'best code leads by' is "
    "recall@10 of the best code of that size minus that of the row, on the same queries (paired); against a bound, the "
    "best code with the same scorer.",
    "Recall is the share of the float neighbors by cosine. 'on disk' are the bytes of the rescore code that ranked the "
    "candidates; without them nothing is rescored. 'bytes' are in memory. 'kept' is the nDCG@10 in percent of that of "
    "floats.",
    "Baselines are trained on the documents that they store, and shown in their best setting. All bytes that are "
    "stored for a document count, except a scale of 2 bytes, which codes have too. 'factors free' does not count the 8 "
    "bytes that RaBitQ stores beside its bits.",
)


def heading(evaluation: Evaluation) -> str:
    """Such as 'scifact: 5,183 documents of 384 dims, 1,109 queries, 1,109 with relevance judgments'."""
    judged = f", {evaluation.judged:,} with relevance judgments" if evaluation.judged else ", no relevance judgments"
    return (
        f"{evaluation.collection}: {evaluation.documents:,} documents of {evaluation.dims} dims, "
        f"{evaluation.queries:,} queries{judged}"
    )


def cells(row: Row, short: bool = False) -> tuple[str, ...]:
    """The cells of one row, in the order of COLUMNS. short: leave out the intervals of recall@100 and nDCG."""
    kept = row.ndcg_kept
    lead = row.lead
    return (
        f"{row.size_bytes}",
        row.method,
        str(row.scorer or ""),
        row.detail,
        f"{row.disk_bytes}" if row.disk_bytes else "",
        str(row.recall_10) if row.kind is not Kind.FLOAT else "1.000",
        _estimate(row.recall_100, short) if row.kind is not Kind.FLOAT else "1.000",
        _estimate(row.ndcg_10, short),
        _kept(kept, short) if kept is not None else "",
        f"{lead.mean:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]" if lead is not None else "",
    )


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """A page with one table per collection."""
    lines = ["# Evaluation", ""]
    for evaluation in evaluations:
        lines += [f"## {heading(evaluation)}", "", _line(COLUMNS)]
        lines += ["|" + "|".join("--:" if column in RIGHT else "---" for column in COLUMNS) + "|"]
        lines += [_line(_emphasized(row, cells(row))) for row in evaluation.rows]
        lines += ["", *(f"- {sentence}." for sentence in verdicts(evaluation)), ""]
    return "\n".join([*lines, *NOTES]) + "\n"


def _kept(kept: Estimate, short: bool) -> str:
    interval = "" if short else f" [{100 * kept.low:.1f}, {100 * kept.high:.1f}]"
    return f"{100 * kept.mean:.1f}%{interval}"


def _estimate(estimate: Estimate | None, short: bool) -> str:
    if estimate is None:
        return ""
    return f"{estimate.mean:.3f}" if short else str(estimate)


def _emphasized(row: Row, texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"**{text}**" if text and row.kind is Kind.CODE else text for text in texts)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"
