"""The model card of a trained bundle: its data, its metrics, and a plot."""

from collections.abc import Sequence
from pathlib import Path

from bebr.encoding import Bundle
from bebr_training.baselines.methods import choose_baselines
from bebr_training.binarizer.export import ExportCheck
from bebr_training.binarizer.train import Trained
from bebr_training.data.collections import Collection, Progress
from bebr_training.data.held_out import HeldOut
from bebr_training.evaluation.evaluate import Plan, evaluate
from bebr_training.evaluation.results import Evaluation
from bebr_training.reports.recall_plot import plot
from bebr_training.reports.tables import markdown
from bebr_training.search.coded import Candidate

CARD, PICTURE = "card.md", "recall.png"
BASELINES = "sign,itq,sq4"
"""Baselines that take seconds; `bebr evaluate` has all of them."""
MAX_DOCUMENTS = 20_000
"""Training rows that the held-out rows search for the card."""


def measure(bundle: Bundle, held_out: HeldOut, progress: Progress | None = None) -> Evaluation:
    """Measure the bundle on held-out rows, beside quick baselines and the bound at half, equal and twice its bytes."""
    size = bundle.spec.code_size_bytes
    documents = held_out.training[:MAX_DOCUMENTS]
    collection = Collection("held-out rows", documents, held_out.queries, None)
    sizes = sorted({max(1, size // 2), size, min(2 * size, bundle.embedding_dims // 2)})
    plan = Plan([Candidate.of_bundle(bundle, bundle.embedding_dims)], sizes, False, choose_baselines(BASELINES), True)
    return evaluate(collection, plan, progress)


def write_card(
    bundle: Bundle, trained: Trained, evaluation: Evaluation, export: ExportCheck, source: str, notes: Sequence[str]
) -> Path:
    """Write card.md and recall.png to the folder of the bundle. They are not part of the bundle's files."""
    plot([evaluation], bundle.path / PICTURE)
    lines = [
        f"# {bundle.id}",
        "",
        f"A binarizer of `{bundle.spec}`, {bundle.spec.code_size_bytes} bytes per point, for embeddings of "
        f"{bundle.embedding_dims} dims. Trained by `bebr train` on `{source}`.",
        "",
        *(f"- {note}." for note in notes),
        f"- Recall@10 by adc on held-out rows: {trained.start_recall:.4f} before, {trained.recall:.4f} after training.",
        f"- Best step: {', '.join(f'{stage} {step}' for stage, step in trained.shipped.items())}; 0 is the start, kept "
        "where no step was better.",
        f"- The exported graph was compared with the trained binarizer on {export.rows:,} rows; {export.boundary_rows} "
        "differ, each with a value within 1e-5 of a boundary of the grid.",
    ]
    if trained.ndcg is not None:
        lines.append(
            f"- nDCG@10 on held-out queries with relevance judgments: {trained.ndcg[0]:.4f} before training, "
            f"{trained.ndcg[1]:.4f} after."
        )
    lines += [
        "",
        f"![recall@10 against bytes]({PICTURE})",
        "",
        "| stage | step | loss | held-out metric |",
        "|---|--:|--:|--:|",
    ]
    lines += [f"| {p.stage} | {p.step} | {p.loss:.4f} | {p.held_out:.4f} |" for p in trained.curve]
    path = bundle.path / CARD
    path.write_text("\n".join([*lines, "", markdown([evaluation])]), "utf-8")
    return path
