"""`bebr train`: a binarizer learned from embeddings or texts, and from judged pairs where there are some."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.cli.evaluate import Show
    from bebr.encoding import Bundle
    from bebr.encoding.recurrent import Recurrent
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
    from bebr.cli.fit import check_free
    from bebr.cli.options import settings_from
    from bebr.cli.output import print_json
    from bebr.encoding.pull import default_name
    from bebr.errors import InvalidOption

    if sum(given is not None for given in (bytes, code, target_recall)) != 1:
        raise InvalidOption("expected exactly one of --bytes, --code and --target-recall")
    with extra():
        from bebr_training.held_out import HeldOut
        from bebr_training.methods import use_threads
        from bebr_training.train import train as run
    folder = out or settings_from(config, {"data_dir": data_dir}).bundles_dir
    name = name or default_name(data.name.split(".")[0])
    check_free(folder, name, version, replace)
    recipe = _recipe(preset, steps, seed)
    use_threads(threads)
    with progress_bar() as show:
        rows, notes, embedding = _read(data, base, data_dir, config, threads, show)
        judged = _pairs(pairs, model, rows.shape[1])
        held_out = HeldOut(rows, seed)
        start = _start(held_out, bytes, code, target_recall, recipe, show)
        trained = run(held_out, start, recipe, pairs=judged, checkpoint=checkpoint, progress=show)
        figures = {"training": trained.to_json() | {"rows": len(rows), "preset": preset, "seed": seed}}
        bundle, card = _write(
            folder, name, version, trained, held_out, embedding, figures, data.name, notes, replace, show
        )
    if as_json:
        print_json({"bundle": bundle.describe(), "path": str(bundle.path), "card": str(card), **figures})
    else:
        _show(bundle, card, trained, notes)


def _recipe(preset: str, steps: int | None, seed: int) -> "Preset":
    from dataclasses import replace

    from bebr.errors import InvalidOption
    from bebr_training.presets import PRESETS

    if preset not in PRESETS:
        raise InvalidOption(f"--preset: expected one of {', '.join(PRESETS)}, got '{preset}'", option="preset")
    recipe = replace(PRESETS[preset], seed=seed)
    return recipe if steps is None else replace(recipe, steps=steps)


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


def _start(
    held_out: "HeldOut",
    size_bytes: int | None,
    code: str | None,
    target_recall: float | None,
    recipe: "Preset",
    show: "Show",
) -> "Recurrent":
    from bebr.core.codes import CodeSpec
    from bebr.encoding.choose import fit_bytes, fit_code, fit_target
    from bebr.errors import InvalidOption

    if recipe.published:
        spec = CodeSpec.parse(code) if code is not None else None
        if spec is None or len(spec.blocks) != 1:
            raise InvalidOption("the published recipe takes one uniform block: give it with --code, such as 256x2")
    if size_bytes is not None:
        return fit_bytes(held_out.training, size_bytes, show)[0]
    if target_recall is not None:
        return fit_target(held_out.training, target_recall, show)[0]
    return fit_code(held_out.training, CodeSpec.parse(code or ""), show)[0]


def _write(
    folder: Path,
    name: str,
    version: str,
    trained: "Trained",
    held_out: "HeldOut",
    model: "Bundle | None",
    figures: dict[str, Any],
    source: str,
    notes: tuple[str, ...],
    replace: bool,
    show: "Show",
) -> "tuple[Bundle, Path]":
    """Check the graph, write the bundle, then its card."""
    from bebr.encoding import write_bundle
    from bebr_training.card import measure, write_card
    from bebr_training.export import check_export

    check = check_export(trained.files, trained.reference, held_out.queries)
    bundle = write_bundle(
        folder,
        name,
        version,
        embedding_dims=held_out.queries.shape[1],
        binarizer=trained.files,
        embedding=model.read_embedding() if model is not None else None,
        figures=figures,
        replace=replace,
    )
    return bundle, write_card(bundle, trained, measure(bundle, held_out, show), check, source, notes)


def _show(bundle: "Bundle", card: Path, trained: "Trained", notes: tuple[str, ...]) -> None:
    from bebr.cli.output import err, out

    for sentence in notes:
        err().print(f"{sentence}.", markup=False)
    out().print(
        f"[bold]{bundle.id}[/] in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes a point, held-out "
        f"recall@10 {trained.recall:.3f} (start {trained.start_recall:.3f})"
        + (f", nDCG@10 {trained.ndcg[1]:.3f} (start {trained.ndcg[0]:.3f})" if trained.ndcg else "")
    )
    out().print(f"model card: {card}")
