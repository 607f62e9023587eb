"""`bebr ingest`: writes a file of points to a collection, shows progress and reports every rejected line."""

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from bebr.cli.points.sources import Source
    from bebr.client import Client, Job
    from bebr.core.types import WriteMode

SHOWN_ERRORS = 10


File = Annotated[str, typer.Argument(help="NDJSON, CSV, TSV or text, optionally .gz; - reads NDJSON from stdin.")]
Collection = Annotated[str, typer.Option("--collection", "-c", help="Collection or alias.", show_default=False)]
BundleId = Annotated[
    str | None,
    typer.Option("--bundle", help="Create the collection with this bundle, such as minilm@2, if it does not exist."),
]
KeepText = Annotated[
    str | None,
    typer.Option(
        help="With --bundle: metadata field in which the new collection keeps its texts, so that another model can "
        "encode them later."
    ),
]
Mode = Annotated[str, typer.Option(help="upsert, insert_only or update_only.")]
IdField = Annotated[
    str | None,
    typer.Option(
        help="CSV and TSV: column of the ids.", show_default="id; without such a column ids are numbers of rows"
    ),
]
TextField = Annotated[str | None, typer.Option(help="CSV and TSV: column of the texts.", show_default="text")]


def ingest(
    file: File,
    collection: Collection,
    bundle: BundleId = None,
    keep_text: KeepText = None,
    mode: Mode = "upsert",
    id_field: IdField = None,
    text_field: TextField = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stream a file of any length to a collection and wait until it is searchable.

    NDJSON has one point per line: {"id": "a", "text": "...", "metadata": {...}}. CSV columns other than id and text
    become metadata; cells of filterable fields are read by their type. A .txt file has one text per line; the id is the
    line number, and metadata keeps the first 10,000 characters as `text` unless the collection keeps texts. Any
    rejected line makes exit code 1.
    """
    from bebr.cli.options import client, parse_choice
    from bebr.cli.output import print_json
    from bebr.cli.points.sources import Source
    from bebr.core.types import WriteMode
    from bebr.errors import InvalidOption

    if keep_text is not None and bundle is None:
        raise InvalidOption(
            "--keep-text needs --bundle: it applies to a collection that is created", option="keep_text"
        )
    chosen = parse_choice(WriteMode, mode, "--mode")
    source = Source(file, id_field, text_field)
    with client(url, api_key) as service:
        described = _describe_or_create(service, collection, bundle, keep_text)
        job = _run(service, collection, source, described, chosen)
        errors = service.job_errors(job.id) if job.rejected else []
    rejected = source.rejected
    job = replace(job, received=job.received + rejected.count, rejected=job.rejected + rejected.count)
    errors = sorted([*rejected.errors, *errors], key=lambda error: error["line"] or math.inf)
    if as_json:
        print_json({**_json_of(job), "errors": errors})
    else:
        _report(job, errors, source.name)
    if job.state != "succeeded" or job.rejected:
        sys.exit(1)


def _describe_or_create(
    service: "Client", collection: str, bundle: str | None, keep_text: str | None
) -> dict[str, Any]:
    """Raises Conflict where the collection exists and is not what the options say."""
    from bebr.errors import CollectionNotFound, Conflict

    try:
        described = service.describe_collection(collection)
    except CollectionNotFound as error:
        if bundle is None:
            raise CollectionNotFound(f"no collection or alias '{collection}'; create it with --bundle") from error
        return service.create_collection(collection, bundle=bundle, text_field=keep_text)
    known = {described["bundle"], *described["compatible_versions"]}
    if bundle is not None and bundle not in known:
        raise Conflict(
            f"collection '{collection}' exists with {', '.join(sorted(filter(None, known)))}, so --bundle '{bundle}' "
            "does not apply"
        )
    kept = described["text_field"]
    if keep_text is not None and kept != keep_text:
        where = f"keeps its texts in '{kept}'" if kept else "was created without text_field and keeps no texts"
        raise Conflict(f"collection '{collection}' {where}, so --keep-text '{keep_text}' does not apply")
    return described


def _run(service: "Client", collection: str, source: "Source", described: dict[str, Any], mode: "WriteMode") -> "Job":
    """Send the file and wait for its job. Ctrl-C while it runs cancels the job; points that were applied are kept."""
    from bebr.cli.output import bytes_progress, err, progress
    from bebr.core.types import FieldType
    from bebr.errors import Unavailable

    fields = {key: FieldType(kind) for key, kind in described["filterable"].items()}
    body = source.body(fields, described["text_field"] is not None)
    with bytes_progress() as bar:
        task = bar.add_task("sending", total=source.size_bytes)
        job = service.ingest(
            collection, body, mode=mode, wait=False, sent=lambda sent: bar.update(task, completed=sent)
        )
    try:
        with progress() as bar:
            task = bar.add_task("indexing", total=None)

            def show(job: "Job") -> None:
                done = job.applied + job.rejected
                total = done + int((job.rate_per_s or 0) * job.eta_s) if job.eta_s else None
                bar.update(task, completed=done, total=done if job.ended else total, description=job.state)

            return service.wait_job(job.id, progress=show)
    except Unavailable as error:
        raise Unavailable(f"{error.detail}; job {job.id} is stored and resumes when the service is back") from error
    except KeyboardInterrupt:
        service.cancel_job(job.id)
        err().print(f"cancelled job {job.id}; points that were applied are kept")
        return service.get_job(job.id)


def _report(job: "Job", errors: list[dict[str, Any]], name: str) -> None:
    from bebr.cli.output import err, out

    rate = f" at {job.rate_per_s:,.0f}/s" if job.rate_per_s else ""
    out().print(f"job {job.id} {job.state}: {job.applied:,} applied, {job.rejected:,} rejected{rate}")
    if job.detail:
        err().print(f"{name}: {job.detail}", markup=False)
    for error in errors[:SHOWN_ERRORS]:
        err().print(f"line {error.get('line')}: {error.get('error')}: {error.get('detail')}", markup=False)
    if job.rejected > SHOWN_ERRORS:
        err().print(f"... and {job.rejected - SHOWN_ERRORS:,} more; --json lists them")


def _json_of(job: "Job") -> dict[str, Any]:
    names = ("state", "received", "applied", "rejected", "rate_per_s", "detail")
    return {"job": job.id} | {name: getattr(job, name) for name in names}
