"""`bebr train`: a binarizer learned from embeddings or texts, and from judged pairs where there are some."""

from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.models.target import Size, Target
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.cli.models.evaluate import Show
    from bebr.cli.models.train_adapter import Made, Upgrade
    from bebr.encoding import Bundle
    from bebr_training.binarizer.presets import Preset
    from bebr_training.binarizer.train import Trained
    from bebr_training.data.held_out import HeldOut


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
    compatible_with: Annotated[
        list[str] | None,
        typer.Option(help="Bundle whose codes queries are to reach, and back; repeat for several."),
    ] = None,
    old_embeddings: Annotated[
        list[Path] | None,
        typer.Option(help="The same rows embedded by the model of --compatible-with, one file for each."),
    ] = None,
    old_model: Annotated[
        list[str] | None, typer.Option(help="Which embeddings of --pairs are of that model, one for each.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Save here while training; go on from there.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all cores.")] = 0,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle.", show_default="that of the file, or of a bundle kept")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the bundle.", show_default="1, or that of a bundle kept")
    ] = None,
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

    With --compatible-with the bundle also learns how its queries reach the codes of other bundles, and how theirs reach
    its own, so that a collection can change its model without encoding anything anew. Without --bytes, --code and
    --target-recall the binarizer of --base is kept as it is. --pairs then choose the best adapter by what is judged.
    """
    from bebr.cli.models.evaluate import extra, find_bundle, progress_bar
    from bebr.cli.models.train_adapter import Old, Sources, Upgrade, keep
    from bebr.cli.options import settings_from

    size = None
    if bytes is not None or code is not None or target_recall is not None or not (compatible_with and base):
        size = Size(bytes, code, target_recall, nested)
    taken_over = find_bundle(base, data_dir, config) if base is not None else None
    kept = taken_over if size is None else None
    folder = out or settings_from(config, {"data_dir": data_dir}).bundles_dir
    target = Target(folder, *_id(data, name, version, kept), replace, taken_over)
    target.check_free(size)
    with extra():
        from bebr_training.baselines.methods import use_threads
    use_threads(threads)
    recipe = _recipe(preset, steps, seed, size)
    with progress_bar() as show:
        sources = Sources(data, taken_over, pairs, model, threads, show)
        olds = [find_bundle(old, data_dir, config) for old in compatible_with or ()]
        upgrade = Upgrade(Old.of(olds, old_embeddings or (), old_model or ()), sources)
        upgrade.check(nested, recipe)
        if size is not None:
            made = _train(size, upgrade, recipe, preset, checkpoint, target)
        else:
            made = keep(upgrade, recipe, checkpoint, target)
    made.print(as_json)


def _id(data: Path, name: str | None, version: str | None, kept: "Bundle | None") -> tuple[str, str]:
    """Name and version of the bundle that is written."""
    from bebr.encoding.importing.pull import default_name

    if kept is not None:
        return name or kept.name, version or kept.version
    return name or default_name(data.name.split(".")[0]), version or "1"


def _recipe(preset: str, steps: int | None, seed: int, size: Size | None) -> "Preset":
    from bebr.core.codes import CodeSpec
    from bebr.errors import InvalidOption
    from bebr_training.binarizer.presets import PRESETS

    if preset not in PRESETS:
        raise InvalidOption(f"--preset: expected one of {', '.join(PRESETS)}, got '{preset}'", option="preset")
    recipe = replaced(PRESETS[preset], seed=seed)
    if recipe.published and (size is None or size.code is None or len(CodeSpec.parse(size.code).blocks) != 1):
        raise InvalidOption("the published recipe takes one uniform block: give it with --code, such as 256x2")
    return recipe if steps is None else replaced(recipe, steps=steps)


def _train(
    size: Size, upgrade: "Upgrade", recipe: "Preset", preset: str, checkpoint: Path | None, target: Target
) -> "Made":
    """A new binarizer, then the adapters from it."""
    from bebr.cli.models.train_adapter import Made, add_to_card
    from bebr_training.binarizer.train import train as run
    from bebr_training.data.held_out import HeldOut

    sources = upgrade.sources
    read = sources.rows(taken_over=True)
    judged, held_out = sources.judged(read), HeldOut(read.rows, recipe.seed)
    start = size.fit(held_out.training, sources.show)[0]
    trained = run(held_out, start, recipe, pairs=judged, checkpoint=checkpoint, progress=sources.show)
    upgrade.check_new(trained.files)
    reached = upgrade.train(read, trained.files, judged, recipe)
    figures = {"training": trained.to_json() | {"rows": len(read.rows), "preset": preset, "seed": recipe.seed}}
    target = replaced(target, reached=[one.files() for one in reached])
    notes = (*read.notes, *upgrade.left_behind())
    bundles, card = _write(target, size, trained, held_out, figures, sources.data.name, notes, sources.show)
    add_to_card(card, card.read_text("utf-8"), reached)
    return Made(bundles, _words(bundles, trained), card, figures, reached, notes)


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
    from bebr_training.binarizer.export import check_export
    from bebr_training.binarizer.model import Published
    from bebr_training.reports.card import measure, write_card

    check = check_export(trained.files, trained.reference, held_out.queries)
    bundle = target.write(trained.files, held_out.queries.shape[1], figures)
    card = write_card(bundle, trained, measure(bundle, held_out, show), check, source, notes)
    if isinstance(trained.reference, Published):
        return [bundle], card
    return [bundle, *target.write_prefixes(trained.reference, size, figures)], card


def _words(bundles: "list[Bundle]", trained: "Trained") -> list[str]:
    """A line for each bundle."""
    bundle, *shorter = bundles
    first = (
        f"{bundle.id} in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes a point, held-out "
        f"recall@10 {trained.recall:.3f} (start {trained.start_recall:.3f})"
        + (f", nDCG@10 {trained.ndcg[1]:.3f} (start {trained.ndcg[0]:.3f})" if trained.ndcg else "")
    )
    return [first, *(f"{one.id} in {one.path}: {one.spec}, the first blocks of the same codes" for one in shorter)]
