"""`bebr train`: a binarizer learned from embeddings or texts, and from judged pairs where there are some."""

from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.fitting import Size, Target
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.cli.evaluate import Show
    from bebr.encoding import Bundle
    from bebr_training.held_out import HeldOut
    from bebr_training.presets import Preset
    from bebr_training.train import Trained


def train(
    data: Annotated[
        Path, typer.Argument(help="Embeddings as .npy, .fvecs or .parquet, or texts as .jsonl[.gz] with --base.")
    ],
    bytes: Annotated[int | None, typer.Option("--bytes", min=1, help="Size of a code; the blocks are chosen.")] = None,
    code: Annotated[str | None, typer.Option(help="The blocks themselves, such as 256x2 or 192x4+128x2.")] = None,
    target_recall: Annotated[
        float | None, typer.Option(help="The smallest code that finds this share of the float top 10.")
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="With --code: its first blocks are a code too; writes a bundle for each.")
    ] = False,
    preset: Annotated[str, typer.Option(help="distil, quick, contrastive, or published: BEBR's recipe.")] = "distil",
    steps: Annotated[int | None, typer.Option(min=0, help="Steps of the preset, or other.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Collection folder with qrels.tsv: queries learn what was judged relevant.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which embeddings of --pairs, where there are several.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Bundle whose embedding model is used and taken over; the new one takes texts.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Save here while training; go on from there.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all cores.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="that of the file")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    out: Annotated[Path | None, typer.Option(help="Folder to put it into.", show_default="BEBR_BUNDLES_DIR")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle of the same id.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Train a binarizer and write it as a bundle, with a model card and a picture.

    Starts from what `bebr fit` makes, learns to rank as the floats do, and keeps the best step on rows that it never
    trained on, so that the bundle is never worse than its start. With --pairs the query side learns from judgements as
    well: codes may then find more than the floats. Needs the extra [train].
    """
    from bebr.cli.evaluate import extra, progress_bar
    from bebr.cli.options import settings_from
    from bebr.cli.output import print_json
    from bebr.encoding.pull import default_name

    size = Size(bytes, code, target_recall, nested)
    with extra():
        from bebr_training.held_out import HeldOut
        from bebr_training.methods import use_threads
        from bebr_training.train import train as run
    name = name or default_name(data.name.split(".")[0])
    target = Target(out or settings_from(config, {"data_dir": data_dir}).bundles_dir, name, version, replace)
    target.check_free(size)
    recipe = _recipe(preset, steps, seed, size)
    use_threads(threads)
    with progress_bar() as show:
        rows, notes, embedding = _read(data, base, data_dir, config, threads, show)
        judged = _pairs(pairs, model, rows.shape[1])
        held_out = HeldOut(rows, seed)
        trained = run(
            held_out, size.fit(held_out.training, show)[0], recipe, pairs=judged, checkpoint=checkpoint, progress=show
        )
        figures = {"training": trained.to_json() | {"rows": len(rows), "preset": preset, "seed": seed}}
        target = replaced(target, embedding=embedding)
        bundles, card = _write(target, size, trained, held_out, figures, data.name, notes, show)
    if as_json:
        written = {"bundle": bundles[0].describe(), "prefixes": [prefix.describe() for prefix in bundles[1:]]}
        print_json(written | {"path": str(bundles[0].path), "card": str(card), **figures})
    else:
        _show(bundles, card, trained, notes)


def _recipe(preset: str, steps: int | None, seed: int, size: Size) -> "Preset":
    from bebr.core.codes import CodeSpec
    from bebr.errors import InvalidOption
    from bebr_training.presets import PRESETS

    if preset not in PRESETS:
        raise InvalidOption(f"--preset: expected one of {', '.join(PRESETS)}, got '{preset}'", option="preset")
    recipe = replaced(PRESETS[preset], seed=seed)
    if recipe.published and (size.code is None or len(CodeSpec.parse(size.code).blocks) != 1):
        raise InvalidOption("the published recipe takes one uniform block: give it with --code, such as 256x2")
    return recipe if steps is None else replaced(recipe, steps=steps)


def _read(
    data: Path, base: str | None, data_dir: Path | None, config: Path | None, threads: int, show: "Show"
) -> "tuple[Any, tuple[str, ...], Bundle | None]":
    """Rows, what was repaired, and the bundle whose embedding model the new one takes over."""
    from bebr.cli.evaluate import find_bundle
    from bebr.encoding.encoder import Encoder
    from bebr.errors import DimensionMismatch, InvalidOption
    from bebr_training.collections import TextEmbedder
    from bebr_training.data import training_rows

    bundle = find_bundle(base, data_dir, config) if base is not None else None
    if bundle is not None and not bundle.has_embedding_model:
        raise InvalidOption(f"bundle '{base}' has no embedding model to take over", option="base")
    embedder = TextEmbedder(Encoder(bundle, max(1, threads)), None, show) if bundle is not None else None
    read = training_rows(data, embedder)
    if bundle is not None and bundle.embedding_dims != read.rows.shape[1]:
        raise DimensionMismatch(
            f"bundle '{base}' makes embeddings of {bundle.embedding_dims} dims, the rows have {read.rows.shape[1]}"
        )
    return read.rows, read.notes, bundle


def _pairs(folder: Path | None, model: str | None, dims: int) -> Any:
    from bebr.errors import DimensionMismatch, InvalidOption
    from bebr_training.collections import open_collection
    from bebr_training.pairs import Pairs

    if folder is None:
        if model is not None:
            raise InvalidOption("--model chooses embeddings of --pairs, and there are none", option="model")
        return None
    collection = open_collection(folder, 1_000_000, model=model)
    if collection.dims != dims:
        raise DimensionMismatch(f"'{folder}' has embeddings of {collection.dims} dims, the rows have {dims}")
    return Pairs.of_collection(collection)


def _write(
    target: Target,
    size: Size,
    trained: "Trained",
    held_out: "HeldOut",
    figures: dict[str, Any],
    source: str,
    notes: tuple[str, ...],
    show: "Show",
) -> "tuple[list[Bundle], Path]":
    """Check the graph, write the bundle, then its card, and the bundles of the prefixes of a nested code."""
    from bebr_training.card import measure, write_card
    from bebr_training.export import check_export
    from bebr_training.model import Published

    check = check_export(trained.files, trained.reference, held_out.queries)
    bundle = target.write(trained.files, held_out.queries.shape[1], figures)
    card = write_card(bundle, trained, measure(bundle, held_out, show), check, source, notes)
    if isinstance(trained.reference, Published):
        return [bundle], card
    return [bundle, *target.write_prefixes(trained.reference, size, figures)], card


def _show(bundles: "list[Bundle]", card: Path, trained: "Trained", notes: tuple[str, ...]) -> None:
    from bebr.cli.output import err, out

    bundle, *shorter = bundles

    for sentence in notes:
        err().print(f"{sentence}.", markup=False)
    out().print(
        f"[bold]{bundle.id}[/] in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes a point, held-out "
        f"recall@10 {trained.recall:.3f} (start {trained.start_recall:.3f})"
        + (f", nDCG@10 {trained.ndcg[1]:.3f} (start {trained.ndcg[0]:.3f})" if trained.ndcg else "")
    )
    for prefix in shorter:
        out().print(f"[bold]{prefix.id}[/] in {prefix.path}: {prefix.spec}, the first blocks of the same codes")
    out().print(f"model card: {card}")
