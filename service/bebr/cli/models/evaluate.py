"""`bebr evaluate`: what codes find of what floats find, beside other methods at equal bytes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.encoding import Bundle
    from bebr_training.data.collections import Collection
    from bebr_training.evaluation.evaluate import Plan
    from bebr_training.evaluation.results import Evaluation

Show = Callable[[int, int, str], None]
"""Called as show(done, total, what is being done)."""


def evaluate(
    data: Annotated[list[Path], typer.Argument(help="Folders, each a collection or a folder of collections.")],
    bundle: Annotated[
        list[str] | None, typer.Option("--bundle", "-b", help="A bundle's id or folder; repeat for several.")
    ] = None,
    bytes: Annotated[
        str | None,
        typer.Option("--bytes", help="Sizes of the rest, as 32,64,128.", show_default="those of the bundles, or 64"),
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Also fit binarizers to each collection's own documents.")] = False,
    baselines: Annotated[
        str,
        typer.Option(
            help="all, none, or some of sign, sign-centred, itq, pca-float16, pca-float32, sq4, pq, opq, rabitq, "
            "rabitq-free, separated by commas."
        ),
    ] = "all",
    no_bound: Annotated[bool, typer.Option("--no-bound", help="Leave out the rate-distortion bound.")] = False,
    queries: Annotated[int, typer.Option(min=1, help="At most so many queries of each collection.")] = 2000,
    model: Annotated[
        str | None, typer.Option(help="Which embeddings, where a folder has docs.<model>.i8.npy of several.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Bundle that embeds the texts of folders without embeddings.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep what --base embeds.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads of faiss and of encoders; 0: all cores.")] = 0,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables into this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw recall against bytes into a .png, .svg or .pdf.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure bundles and other methods at equal bytes on collections of your own.

    Recall@10 and @100 of the float neighbours, and nDCG@10 where there are judgements, with bootstrap intervals. A
    collection is a folder with docs.npy and queries.npy (or .fvecs, .parquet), or with corpus.jsonl and queries.jsonl
    as BEIR has them, and perhaps qrels.tsv. Needs the extra [train].
    """
    with extra():
        from bebr_training.baselines import methods
        from bebr_training.evaluation.evaluate import Plan
        from bebr_training.reports.recall_plot import check_suffix
    from bebr.cli.output import print_json

    measured = [find_bundle(name, data_dir, config) for name in bundle or ()]
    sizes = methods.parse_sizes(bytes) if bytes else sorted({one.spec.code_size_bytes for one in measured}) or [64]
    plan = Plan((), sizes, fit, methods.choose_baselines(baselines), not no_bound)
    if plot is not None:
        check_suffix(plot)
    thread_count = methods.use_threads(threads)
    with progress_bar() as show:
        opened = _open(data, queries, model, _embedding(base, data_dir, config), cache, thread_count, show)
        found = _evaluate(opened, plan, measured, thread_count, show)
    _write(found, markdown, plot)
    if as_json:
        print_json({"evaluations": [evaluation.to_json() for evaluation in found]})
    else:
        _print(found)


@contextmanager
def extra() -> Iterator[None]:
    """Says what to install where a package of the extra [train] is missing."""
    from bebr.errors import InvalidOption

    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"this needs {error.name}, which is not installed: install bebr with the extra [train]"
        ) from error


@contextmanager
def progress_bar() -> Iterator[Show]:
    from bebr.cli.output import progress

    with progress() as bar:
        task = bar.add_task("reading", total=None)

        def show(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=label)

        yield show


def find_bundle(name: str, data_dir: Path | None, config: Path | None) -> "Bundle":
    """A bundle by its id, or by its folder when the name has a / in it. Raises BundleNotFound, DamagedBundle."""
    from bebr.cli.options import settings_from
    from bebr.encoding import Bundle, BundleRegistry, shipped_bundles

    if "/" in name:
        return Bundle.load(Path(name))
    settings = settings_from(config, {"data_dir": data_dir})
    return BundleRegistry([settings.bundles_dir, shipped_bundles()]).get(name)


def _embedding(base: str | None, data_dir: Path | None, config: Path | None) -> "Bundle | None":
    return find_bundle(base, data_dir, config) if base is not None else None


def _open(
    data: Sequence[Path],
    queries: int,
    model: str | None,
    base: "Bundle | None",
    cache: Path | None,
    threads: int,
    show: Show,
) -> "list[Collection]":
    """All collections, before anything is measured, so that what is wrong with one is said at once."""
    from bebr.encoding.encoder import Encoder
    from bebr.errors import InvalidOption
    from bebr_training.data.collections import TextEmbedder, find_collections, open_collection

    if cache is not None and base is None:
        raise InvalidOption("--cache keeps what --base embeds, and there is no --base")
    embedder = TextEmbedder(Encoder(base, threads), cache, show) if base is not None else None
    return [open_collection(folder, queries, model=model, embedder=embedder) for folder in find_collections(data)]


def _evaluate(
    collections: "Sequence[Collection]", plan: "Plan", bundles: "Sequence[Bundle]", threads: int, show: Show
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


def _print(evaluations: "Sequence[Evaluation]") -> None:
    from bebr.cli.output import out, table
    from bebr_training.evaluation.results import Kind, verdicts
    from bebr_training.reports.tables import COLUMNS, NOTES, RIGHT, cells, heading

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
