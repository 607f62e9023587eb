"""`bebr fit`: a binarizer for embeddings of your own, chosen by measured recall; or for a collection of the service."""

from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bebr.cli.models.target import Size, Target
from bebr.cli.options import ApiKey, AsJson, ConfigFile, DataDir, Url

if TYPE_CHECKING:
    from bebr.config import Settings
    from bebr.encoding import Bundle
    from bebr.encoding.quantization.layout import FitReport


def fit(
    embeddings: Annotated[
        Path | None, typer.Argument(help="Embeddings as .npy, .fvecs or .parquet, one a row; or give --collection.")
    ] = None,
    bytes: Annotated[int | None, typer.Option("--bytes", min=1, help="Size of a code; the blocks are chosen.")] = None,
    code: Annotated[str | None, typer.Option(help="The blocks themselves, such as 256x2 or 48x4+128x2+64x1.")] = None,
    target_recall: Annotated[
        float | None, typer.Option(help="The smallest code that finds this share of the float top 10.")
    ] = None,
    nested: Annotated[
        bool, typer.Option("--nested", help="With --code: its first blocks are a code too; writes a bundle for each.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(help="Bundle whose embedding model made these embeddings; the new one takes texts too."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="that of the file")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the bundle.", show_default="1")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to put it into.", show_default="BEBR_BUNDLES_DIR")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle of the same id.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Fit a collection's own binarizer, in the service.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="With --collection: points to gather first.", show_default="as at the last fit"),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="With --collection: fit to the points that wait already.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="With --collection: wait until it is done.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Fit a binarizer to embeddings and write it as a bundle.

    Rows are held out to measure recall: the share of the 10 nearest by float cosine that the codes find. Fit on what
    you will search: the sharper the blocks, the more it pays.

    With --collection the service does it for a collection: it gathers the embeddings of the next points that are
    written, new ones or old ones again, fits a binarizer of the collection's own and encodes them with it. Other points
    keep their codes, and both are searched together.
    """
    from bebr.cli.models.fit_collection import fit_collection
    from bebr.cli.options import settings_from
    from bebr.encoding.importing.pull import default_name
    from bebr.errors import InvalidOption

    for_file: dict[str, object] = {
        "EMBEDDINGS": embeddings,
        "--code": code,
        "--target-recall": target_recall,
        "--nested": nested,
        "--base": base,
        "--name": name,
        "--version": version,
    }
    for_file |= {"--out": out, "--replace": replace, "--data-dir": data_dir}
    for_service: dict[str, object] = {"--sample": sample, "--now": now, "--wait": wait}
    _refuse(for_file if collection else for_service, collection)
    if collection:
        fit_collection(collection, bytes, sample, now, wait, url, api_key, as_json)
    elif embeddings is None:
        raise InvalidOption("expected EMBEDDINGS, a file of them, or --collection")
    else:
        settings = settings_from(config, {"data_dir": data_dir})
        name = name or default_name(embeddings.stem)
        target = Target(out or settings.bundles_dir, name, version or "1", replace)
        _fit_file(embeddings, Size(bytes, code, target_recall, nested), target, settings, base, as_json)


def _refuse(options: dict[str, object], collection: str | None) -> None:
    """Raise InvalidOption if one of these was given."""
    from bebr.errors import InvalidOption

    if wrong := [option for option, given in options.items() if given]:
        raise InvalidOption(f"{wrong[0]} does not apply {'with' if collection else 'without'} --collection")


def _fit_file(
    embeddings: Path, size: Size, target: Target, settings: "Settings", base: str | None, as_json: bool
) -> None:
    from bebr.cli.output import print_json, progress
    from bebr.encoding.embedding.files import read_rows
    from bebr.encoding.quantization.recurrent_graph import files_of

    target.check_free(size)
    rows = read_rows(embeddings)
    target = replaced(target, embedding=_base(settings, base, rows.shape[-1]))
    with progress() as bar:
        task = bar.add_task("measuring", total=None)

        def show(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=label)

        fitted, report = size.fit(rows, show)
    figures = {"fit": {name: value for name, value in report.to_json().items() if name != "trials"}}
    bundle = target.write(files_of(fitted), fitted.embedding_dims, figures)
    shorter = target.write_prefixes(fitted, size, figures)
    if as_json:
        written = {"bundle": bundle.describe(), "prefixes": [prefix.describe() for prefix in shorter]}
        print_json(written | {"path": str(bundle.path), "fit": report.to_json()})
    else:
        _show(bundle, shorter, report)


def _base(settings: "Settings", base: str | None, dims: int) -> "Bundle | None":
    """The bundle whose embedding model the new one takes over. Raises BundleNotFound, InvalidOption."""
    from bebr.encoding import BundleRegistry, shipped_bundles
    from bebr.errors import DimensionMismatch, InvalidOption

    if base is None:
        return None
    bundle = BundleRegistry([settings.bundles_dir, shipped_bundles()]).get(base)
    if not bundle.has_embedding_model:
        raise InvalidOption(f"bundle '{base}' has no embedding model to take over", option="base")
    if bundle.embedding_dims != dims:
        raise DimensionMismatch(
            f"bundle '{base}' makes embeddings of {bundle.embedding_dims} dims, the rows have {dims}"
        )
    return bundle


def _show(bundle: "Bundle", shorter: "list[Bundle]", report: "FitReport") -> None:
    from bebr.cli.output import out, table
    from bebr.core.codes import CodeSpec

    rows = table("", "code", "bytes", "centred", "effort", "rows", "recall@10", right=("bytes", "rows", "recall@10"))
    for trial in sorted(report.trials, key=lambda trial: (not trial.cheap, trial.recall)):
        chosen = trial == report.chosen
        rows.add_row(
            "*" if chosen else "",
            trial.code,
            str(CodeSpec.parse(trial.code).code_size_bytes),
            "yes" if trial.centred else "no",
            "cheap" if trial.cheap else "full",
            f"{trial.rows:,}",
            f"{trial.recall:.3f}",
            style="bold green" if chosen else "dim" if trial.cheap else None,
        )
    out().print(rows)
    out().print(
        f"[bold]{bundle.id}[/] in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes a point, recall@10 "
        f"{report.chosen.recall:.3f} of the float neighbours of {report.queries} held-out rows"
    )
    for prefix, recall in zip(shorter, report.chosen.prefixes, strict=True):
        out().print(
            f"[bold]{prefix.id}[/] in {prefix.path}: {prefix.spec}, the first {prefix.spec.code_size_bytes} bytes of "
            f"the same codes, recall@10 {recall:.3f}"
        )
