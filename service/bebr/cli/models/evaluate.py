"""`bebr evaluate`: codes and other methods at equal bytes, on your own collections."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.extra import train_extra
from bebr.cli.models.options import Threads
from bebr.cli.models.registry import check_folder_is_used, find_bundle
from bebr.cli.models.training_data import use_threads
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.cli.output import Show
    from bebr.encoding import Bundle
    from bebr_training.data.collections import Collection, TextEmbedder
    from bebr_training.evaluation.evaluate import Plan
    from bebr_training.evaluation.results import Evaluation

Folders = Annotated[list[Path], typer.Argument(help="Folders, each a collection or a folder of collections.")]
Bundles = Annotated[
    list[str] | None, typer.Option("--bundle", "-b", help="Bundle to measure, by id or folder; repeat for several.")
]
Sizes = Annotated[
    str | None,
    typer.Option(
        "--bytes", help="Sizes of all other methods, as 32,64,128.", show_default="those of the bundles, or 64"
    ),
]
RescoreSizes = Annotated[
    str | None,
    typer.Option(
        "--rescore-bytes", help="With --fit: also measure the fitted binarizers with rescore codes of these sizes."
    ),
]
Fit = Annotated[bool, typer.Option("--fit", help="Also fit a binarizer to each collection's own documents.")]
BaselineNames = Annotated[
    str,
    typer.Option(
        "--baselines",
        help="all, none, or some of sign, sign-centered, itq, pca-float16, pca-float32, sq4, pq, opq, rabitq, "
        "rabitq-free, separated by commas.",
    ),
]
NoBound = Annotated[bool, typer.Option("--no-bound", help="Leave out the rate-distortion bound.")]
Queries = Annotated[int, typer.Option(min=1, help="Maximum number of queries per collection.")]
Model = Annotated[
    str | None, typer.Option(help="Which embeddings to read where a folder has docs.<model>.i8.npy of several models.")
]
Base = Annotated[str | None, typer.Option(help="Bundle that embeds the texts of folders without embeddings.")]
Cache = Annotated[Path | None, typer.Option(help="Folder that caches what --base embeds.")]
Markdown = Annotated[Path | None, typer.Option(help="Also write the tables to this file.")]
Plot = Annotated[Path | None, typer.Option(help="Plot recall against bytes to a .png, .svg or .pdf file.")]


def evaluate(
    context: typer.Context,
    data: Folders,
    bundle: Bundles = None,
    bytes: Sizes = None,
    fit: Fit = False,
    rescore_bytes: RescoreSizes = None,
    baselines: BaselineNames = "all",
    no_bound: NoBound = False,
    queries: Queries = 2000,
    model: Model = None,
    base: Base = None,
    cache: Cache = None,
    threads: Threads = 0,
    markdown: Markdown = None,
    plot: Plot = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure bundles and other methods at equal bytes on your own collections.

    Prints recall@10 and @100 of the float neighbors, and nDCG@10 where there are relevance judgments, with bootstrap
    intervals. A collection is a folder with docs.npy and queries.npy (or .fvecs, .parquet), or with corpus.jsonl and
    queries.jsonl in BEIR format, and optionally qrels.tsv. Needs the extra [train].
    """
    from bebr.cli.output import counted_progress

    check_folder_is_used(context, False, base, *(bundle or ()))
    measured = [find_bundle(name, data_dir, config) for name in bundle or ()]
    embedding = find_bundle(base, data_dir, config) if base is not None else None
    plan = _plan(measured, bytes, fit, baselines, not no_bound, rescore_bytes)
    _check(plot, base, cache)
    count = use_threads(threads)
    with counted_progress("reading") as show:
        opened = _open(data, queries, model, _embedder(embedding, cache, count, show))
        found = _evaluate(opened, plan, measured, count, show)
    _write(found, markdown, plot)
    _print(found, as_json)


def _plan(
    bundles: "Sequence[Bundle]", sizes: str | None, fit: bool, baselines: str, bound: bool, rescore: str | None
) -> "Plan":
    """What to measure beside the bundles. Raises InvalidOption."""
    from bebr.errors import InvalidOption

    if rescore is not None and not fit:
        raise InvalidOption("--rescore-bytes applies to fitted binarizers: add --fit")
    with train_extra():
        from bebr_training.baselines import methods
        from bebr_training.evaluation.evaluate import Plan
    chosen = methods.parse_sizes(sizes) if sizes else sorted({one.spec.code_size_bytes for one in bundles}) or [64]
    finer = methods.parse_sizes(rescore, "--rescore-bytes") if rescore else ()
    return Plan((), chosen, fit, methods.choose_baselines(baselines), bound, finer)


def _check(plot: Path | None, base: str | None, cache: Path | None) -> None:
    """Raise InvalidOption before the work rather than after it."""
    from bebr.errors import InvalidOption

    if cache is not None and base is None:
        raise InvalidOption("--cache keeps what --base embeds, and --base is missing")
    if plot is not None:
        from bebr_training.reports.recall_plot import check_suffix

        check_suffix(plot)


def _embedder(base: "Bundle | None", cache: Path | None, threads: int, show: "Show") -> "TextEmbedder | None":
    from bebr.encoding.encoder import Encoder
    from bebr_training.data.collections import TextEmbedder

    return TextEmbedder(Encoder(base, threads), cache, show) if base is not None else None


def _open(data: Sequence[Path], queries: int, model: str | None, embedder: "TextEmbedder | None") -> "list[Collection]":
    """All collections, before anything is measured, so that a fault in one is reported at once."""
    from bebr_training.data.collections import find_collections, open_collection

    return [open_collection(folder, queries, model=model, embedder=embedder) for folder in find_collections(data)]


def _evaluate(
    collections: "Sequence[Collection]", plan: "Plan", bundles: "Sequence[Bundle]", threads: int, show: "Show"
) -> "list[Evaluation]":
    from bebr_training.evaluation import evaluate as evaluation
    from bebr_training.search.coded import Candidate

    of_each = [[Candidate.of_bundle(one, c.dims, threads) for one in bundles] for c in collections]
    plans = [replace(plan, candidates=candidates) for candidates in of_each]
    return [evaluation.evaluate(c, its_plan, show) for c, its_plan in zip(collections, plans, strict=True)]


def _write(evaluations: "Sequence[Evaluation]", markdown: Path | None, plot: Path | None) -> None:
    from bebr_training.reports.recall_plot import plot as draw
    from bebr_training.reports.tables import markdown as page

    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(page(evaluations), "utf-8")
    if plot is not None:
        draw(evaluations, plot)


def _print(evaluations: "Sequence[Evaluation]", as_json: bool) -> None:
    from bebr.cli.output import out, print_json, table
    from bebr_training.evaluation.results import Kind, verdicts
    from bebr_training.reports.tables import COLUMNS, NOTES, RIGHT, cells, heading

    if as_json:
        print_json({"evaluations": [evaluation.to_json() for evaluation in evaluations]})
        return
    for evaluation in evaluations:
        out().print(f"[bold]{heading(evaluation)}[/]")
        rows = table(*COLUMNS, right=RIGHT)
        for row in evaluation.rows:
            rows.add_row(*cells(row, short=True), style="bold green" if row.kind is Kind.CODE else None)
        out().print(rows)
        for sentence in verdicts(evaluation):
            out().print(f"{sentence}.")
        out().print()
    for note in NOTES:
        out().print(note, markup=False)
