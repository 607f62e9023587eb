"""`bebr fit`: fits a binarizer to a file of embeddings and writes it as a bundle."""

from dataclasses import asdict
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.models.options import (
    Bytes,
    Code,
    CpuSeconds,
    FittedName,
    FittedVersion,
    Nested,
    Out,
    Replace,
    RescoreBytes,
    TargetRecall,
)
from bebr.cli.models.target import Size, Target
from bebr.cli.options import AsJson, ConfigFile, DataDir

if TYPE_CHECKING:
    from bebr.encoding import Bundle
    from bebr.encoding.quantization.trials import FitReport

Embeddings = Annotated[Path, typer.Argument(help="Embeddings as .npy, .fvecs or .parquet, one per row.")]
Base = Annotated[
    str | None,
    typer.Option(help="Bundle whose embedding model made these embeddings; the new bundle takes texts too."),
]


def fit(
    context: typer.Context,
    embeddings: Embeddings,
    bytes: Bytes = None,
    rescore_bytes: RescoreBytes = 0,
    cpu_seconds: CpuSeconds = None,
    code: Code = None,
    target_recall: TargetRecall = None,
    nested: Nested = False,
    base: Base = None,
    name: FittedName = None,
    version: FittedVersion = "1",
    out: Out = None,
    replace: Replace = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit a binarizer to embeddings and write it as a bundle.

    Some rows are held out to measure recall: the share of the 10 nearest neighbors by float cosine that the codes
    find. Fit on the data that you will search. `bebr collection fit` fits a collection of the service instead.
    """
    from bebr.cli.models.registry import check_folder_is_used, registry_of
    from bebr.cli.options import settings_from
    from bebr.encoding.importing.pull import default_name

    size = Size(bytes, code, target_recall, nested, rescore_bytes, cpu_seconds)
    check_folder_is_used(context, out is None, base)
    bundles = settings_from(config, {"data_dir": data_dir}).bundles_dir
    target = Target(out or bundles, name or default_name(embeddings.stem), version, replace)
    target.check_free(size)
    embedding = registry_of(bundles).get(base) if base is not None else None
    _fit(embeddings, size, replaced(target, embedding=embedding), as_json)


def _fit(embeddings: Path, size: Size, target: Target, as_json: bool) -> None:
    from bebr.cli.models.registry import check_dims, check_embedding_model
    from bebr.cli.output import counted_progress, err, print_json
    from bebr.encoding.embedding.files import read_rows
    from bebr.encoding.quantization.recurrent_graph import files_of

    rows = read_rows(embeddings)
    if target.embedding is not None:
        check_embedding_model(target.embedding)
        check_dims(target.embedding, rows.shape[-1])
    if (seconds := size.estimate(rows)) is not None:
        err().print(f"fitting to {len(rows):,} rows of {rows.shape[1]:,} dims: about {seconds:,.0f} CPU seconds")
    with counted_progress("measuring") as show:
        fitted, report = size.fit(rows, show)
    metrics: dict[str, Any] = {"fit": {name: value for name, value in asdict(report).items() if name != "trials"}}
    if report.rescored is not None:
        metrics["candidates"] = report.rescored.candidates
    bundle = target.write(files_of(fitted), fitted.embedding_dims, metrics)
    prefixes = target.write_prefixes(fitted, size, metrics)
    if as_json:
        written = {"bundle": asdict(bundle.summary()), "prefixes": [asdict(prefix.summary()) for prefix in prefixes]}
        print_json(written | {"path": str(bundle.path), "fit": asdict(report)})
    else:
        _print(bundle, prefixes, report)


def _print(bundle: "Bundle", prefixes: "list[Bundle]", report: "FitReport") -> None:
    from bebr.cli.output import out, table
    from bebr.core.codes import CodeSpec

    rows = table("", "code", "bytes", "centered", "effort", "rows", "recall@10", right=("bytes", "rows", "recall@10"))
    for trial in sorted(report.trials, key=lambda trial: (not trial.cheap, trial.recall)):
        chosen = trial == report.chosen
        rows.add_row(
            "*" if chosen else "",
            trial.code,
            str(CodeSpec.parse(trial.code).code_size_bytes),
            "yes" if trial.centered else "no",
            "cheap" if trial.cheap else "full",
            f"{trial.rows:,}",
            f"{trial.recall:.3f}",
            style="bold green" if chosen else "dim" if trial.cheap else None,
        )
    out().print(rows)
    out().print(
        f"[bold]{bundle.id}[/] in {bundle.path}: {bundle.spec}, {bundle.spec.code_size_bytes} bytes per point, "
        f"recall@10 {report.chosen.recall:.3f} of the float neighbors of {report.queries} held-out rows "
        f"among {report.chosen.rows:,}; fitted to {report.fitted_to:,} of {report.rows:,} rows",
        soft_wrap=True,
    )
    if report.rescored is not None:
        out().print(
            f"with a rescore code of {bundle.spec.rescore_code_size_bytes} bytes per point on disk, recall@10 "
            f"{report.rescored.recall:.3f} after {report.rescored.candidates} candidates are rescored"
        )
    for prefix, recall in zip(prefixes, report.chosen.prefixes, strict=True):
        out().print(
            f"[bold]{prefix.id}[/] in {prefix.path}: {prefix.spec}, the first {prefix.spec.code_size_bytes} bytes of "
            f"the same codes, recall@10 {recall:.3f}"
        )
