"""`bebr ingest`: writes files of points to a collection, shows progress and reports every rejected line."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url, refuse

if TYPE_CHECKING:
    from bebr.cli.files.sources import Sources
    from bebr.client import Client, Job
    from bebr.core.types import FieldType, WriteMode

SHOWN_ERRORS = 10


Files = Annotated[
    list[str],
    typer.Argument(
        help="NDJSON, JSON, CSV, TSV, text, Parquet, .npy or .fvecs, those of text optionally .gz; patterns such as "
        "'part-*.parquet'; a folder with such files, or in the format of BEIR; - reads stdin."
    ),
]
Collection = Annotated[str, typer.Option("--collection", "-c", help="Collection or alias.", show_default=False)]
BundleId = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        help="Create the collection with this bundle, such as minilm@2, if it does not exist.",
        show_default="minilm, where points are texts",
    ),
]
KeepText = Annotated[
    str | None,
    typer.Option(
        help="Metadata field in which a new collection keeps its texts, so that another model can encode them later."
    ),
]
Filterable = Annotated[
    list[str] | None,
    typer.Option(
        help="Metadata fields that filters may use: price=float,category=keyword; or auto. A collection that exists "
        "gets those that it lacks."
    ),
]
Mode = Annotated[str, typer.Option(help="upsert, insert_only or update_only.")]
IdField = Annotated[
    str | None,
    typer.Option(help="Column of the ids.", show_default="id or _id; without such a column ids are numbers of rows"),
]
TextField = Annotated[
    str | None,
    typer.Option(
        help="Column of the texts; of several, separated by commas, the texts are joined, and metadata keeps each.",
        show_default="text",
    ),
]
VectorField = Annotated[
    str | None, typer.Option(help="Column of the vectors.", show_default="embedding, vector or emb")
]
Flat = Annotated[
    bool,
    typer.Option("--flat", help="NDJSON and JSON: the keys of objects are columns; those not used become metadata."),
]
Delimiter = Annotated[
    str | None,
    typer.Option(help="What separates the cells of a text file: one character, or tab.", show_default="by its name"),
]
Ids = Annotated[
    str | None,
    typer.Option(
        "--ids", help="For .npy and .fvecs: a file with one id a line.", show_default="numbers of rows from 0"
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Do not wait for the job once the service has the files; `bebr jobs` follows it."),
]


def ingest(
    context: typer.Context,
    files: Files,
    collection: Collection,
    bundle: BundleId = None,
    keep_text: KeepText = None,
    filterable: Filterable = None,
    mode: Mode = "upsert",
    id_field: IdField = None,
    text_field: TextField = None,
    vector_field: VectorField = None,
    flat: Flat = False,
    delimiter: Delimiter = None,
    ids: Ids = None,
    detach: Detach = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stream files of any length to a collection and wait until they are searchable.

    A collection that does not exist is created: with --bundle, for the vectors of the files, or with the bundle that
    is there for texts. NDJSON and JSON arrays have points: {"id": "a", "text": "...", "metadata": {...}}. CSV, Parquet
    and, with --flat, JSON have columns, and those that are no ids, texts or vectors become metadata; cells of
    filterable fields are read by their type. A .txt file has one text per line; the id is the line number, and
    metadata keeps the first 10,000 characters as `text` unless the collection keeps texts. Any rejected line makes exit
    code 1. Files that `bebr encode` wrote are sent as they are, to a collection of the same bundle.
    """
    from bebr.cli.files.columns import FileOptions, Target
    from bebr.cli.files.sources import Sources
    from bebr.cli.options import client, parse_choice, parse_fields
    from bebr.cli.output import err, print_json
    from bebr.cli.points.destination import Wanted, find_or_create
    from bebr.cli.points.records import find_record_files, ingest_records
    from bebr.core.types import WriteMode

    chosen = parse_choice(WriteMode, mode, "--mode")
    wanted = Wanted(bundle, keep_text, parse_fields(filterable or ()))
    if (records := find_record_files(files)) is not None:
        for option in ("id_field", "text_field", "vector_field", "flat", "delimiter", "ids"):
            refuse(context, option, "does not apply: these files are encoded already")
        refuse(context, "detach", "does not apply to encoded files: the service has no job of them")
        ingest_records(records, collection, wanted, chosen, client(url, api_key), as_json)
        return
    options = FileOptions(id_field, text_fields(text_field), vector_field, flat, delimiter, ids)
    sources = Sources(files, options)
    with client(url, api_key) as service:
        described, created = find_or_create(service, collection, wanted, sources)
        for line in [*sources.said(), *([created] if created else [])]:
            err().print(line, markup=False)
        target = Target(_types(described), described["text_field"])
        job = _send(service, collection, sources, target, chosen)
        if not detach:
            job = _wait(service, job)
        errors = service.job_errors(job.id) if job.rejected and not detach else []
    rejected = sources.rejected
    job = replace(job, received=job.received + rejected.count, rejected=job.rejected + rejected.count)
    errors = sources.in_order([*rejected.errors, *(error | sources.place(error["line"]) for error in errors)])
    if as_json:
        print_json({**_json_of(job), "errors": errors})
    else:
        _report(job, errors, sources)
    if job.rejected or (job.state != "succeeded" and not detach):
        sys.exit(1)


def text_fields(given: str | None) -> tuple[str, ...]:
    """The columns that --text-field names."""
    return tuple(name.strip() for name in given.split(",")) if given is not None else ()


def _types(described: dict[str, Any]) -> "dict[str, FieldType]":
    from bebr.core.types import FieldType

    return {key: FieldType(kind) for key, kind in described["filterable"].items()}


def _send(service: "Client", collection: str, sources: "Sources", target: Any, mode: "WriteMode") -> "Job":
    """Stream the files to the service, which has them on its disk when this returns."""
    from bebr.cli.output import bytes_progress, shown_progress

    body = sources.body(target)
    point = sources.first_point() or {}
    with shown_progress("sending", bytes_progress) as show:

        def sent(count: int) -> None:
            show(count if isinstance(body, Path) else sources.read_bytes, sources.size_bytes, "sending")

        # vectors do not shrink: to compress them costs more than to send them
        return service.ingest(
            collection, body, mode=mode, wait=False, sent=sent, compress=not {"vector", "vector_b64"} & point.keys()
        )


def _wait(service: "Client", job: "Job") -> "Job":
    """Ctrl-C while it runs cancels the job; points that were applied are kept."""
    from bebr.cli.output import err, shown_progress
    from bebr.errors import Unavailable

    try:
        with shown_progress("indexing") as show:

            def shown(job: "Job") -> None:
                done = job.applied + job.rejected
                total = done + int((job.rate_per_s or 0) * job.eta_s) if job.eta_s else None
                show(done, done if job.ended else total, job.state)

            return service.wait_job(job.id, progress=shown)
    except Unavailable as error:
        raise Unavailable(f"{error.detail}; job {job.id} is stored and resumes when the service is back") from error
    except KeyboardInterrupt:
        service.cancel_job(job.id)
        err().print(f"cancelled job {job.id}; points that were applied are kept")
        return service.get_job(job.id)


def _report(job: "Job", errors: list[dict[str, Any]], sources: "Sources") -> None:
    from bebr.cli.output import err, out

    rate = f" at {job.rate_per_s:,.0f}/s" if job.rate_per_s else ""
    out().print(f"job {job.id} {job.state}: {job.applied:,} applied, {job.rejected:,} rejected{rate}")
    if job.detail:
        err().print(f"{sources.name}: {job.detail}", markup=False)
    for error in errors[:SHOWN_ERRORS]:
        file = error.get("file")
        place = f"{f'{file}: ' if file else ''}{sources.unit(file)} {error.get('line')}"
        err().print(f"{place}: {error.get('error')}: {error.get('detail')}", markup=False)
    if job.rejected > SHOWN_ERRORS:
        err().print(f"... and {job.rejected - SHOWN_ERRORS:,} more; --json lists them")
    if any("unknown field" in str(error.get("detail")) for error in errors):
        err().print("--flat keeps the keys that points do not have as metadata")


def _json_of(job: "Job") -> dict[str, Any]:
    names = ("state", "received", "applied", "rejected", "rate_per_s", "detail")
    return {"job": job.id} | {name: getattr(job, name) for name in names}
