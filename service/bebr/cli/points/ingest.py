"""`bebr ingest`: a file of points into a collection, with progress and every rejected line named."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from bebr.client import Client, Job

SHOWN_ERRORS = 10


def ingest(
    file: Annotated[str, typer.Argument(help="NDJSON, CSV or text, also as .gz; - reads NDJSON from stdin.")],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Collection or alias.", show_default=False)],
    bundle: Annotated[
        str | None, typer.Option(help="Create the collection with this bundle if it does not exist, e.g. minilm@1.")
    ] = None,
    keep_text: Annotated[
        str | None,
        typer.Option(
            help="With --bundle: the metadata field in which a new collection keeps its texts, so that another model "
            "can encode them later."
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="upsert, insert_only or update_only.")] = "upsert",
    id_field: Annotated[str, typer.Option(help="CSV: the column with the ids; without it, line numbers.")] = "id",
    text_field: Annotated[str, typer.Option(help="CSV: the column with the texts.")] = "text",
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Stream a file of any length into a collection and wait until it is searchable.

    NDJSON holds one point a line: {"id": "a", "text": "...", "metadata": {...}}. CSV columns other than id and text
    become metadata. A .txt file holds one text a line; its id is the line number. A rejected line makes exit code 1.
    """
    from bebr.cli.options import client
    from bebr.cli.output import print_json
    from bebr.cli.points.sources import open_source
    from bebr.errors import InvalidOption

    if keep_text is not None and bundle is None:
        raise InvalidOption("--keep-text is for a collection that --bundle creates", option="keep_text")
    source = open_source(file, id_field, text_field)
    with client(url, api_key) as service:
        if bundle:
            _create_if_missing(service, collection, bundle, keep_text)
        job = _run(service, collection, source, mode)
        errors = service.job_errors(job.id) if job.rejected else []
    if as_json:
        print_json({**_json_of(job), "errors": errors})
    else:
        _report(job, errors)
    if job.state != "succeeded" or job.rejected:
        sys.exit(1)


def _create_if_missing(service: "Client", collection: str, bundle: str, keep_text: str | None) -> None:
    """Raises Conflict where there is one that keeps no texts in that field, which cannot be changed any more."""
    from bebr.errors import CollectionNotFound, Conflict

    try:
        kept = service.describe_collection(collection)["text_field"]
    except CollectionNotFound:
        service.create_collection(collection, bundle=bundle, text_field=keep_text)
        return
    if keep_text is not None and kept != keep_text:
        where = f"keeps its texts in '{kept}'" if kept else "was made to keep no texts"
        raise Conflict(f"'{collection}' {where}, so --keep-text '{keep_text}' does not apply")


def _run(service: "Client", collection: str, source: Any, mode: str) -> "Job":
    """Send, then follow the job; Ctrl-C while it runs cancels it and keeps what was applied."""
    from bebr.cli.output import bytes_progress, err, progress
    from bebr.errors import CollectionNotFound, Unavailable

    size = source.stat().st_size if isinstance(source, Path) else None
    with bytes_progress() as bar:
        task = bar.add_task("sending", total=size)
        try:
            job = service.ingest(
                collection, source, mode=mode, wait=False, sent=lambda sent: bar.update(task, completed=sent)
            )
        except CollectionNotFound as error:
            raise CollectionNotFound(f"no collection or alias '{collection}'; --bundle creates it") from error
    try:
        with progress() as bar:
            task = bar.add_task("indexing", total=None)

            def show(job: "Job") -> None:
                done = job.applied + job.rejected
                total = done + int((job.rate_per_s or 0) * job.eta_s) if job.eta_s else None
                bar.update(task, completed=done, total=done if job.ended else total, description=job.state)

            return service.wait_job(job.id, progress=show)
    except Unavailable as error:
        raise Unavailable(f"{error.detail}; job {job.id} is safe and goes on when the service is back") from error
    except KeyboardInterrupt:
        service.cancel_job(job.id)
        err().print(f"cancelled job {job.id}; what was applied stays")
        return service.get_job(job.id)


def _report(job: "Job", errors: list[dict[str, Any]]) -> None:
    from bebr.cli.output import err, out

    rate = f" at {job.rate_per_s:,.0f}/s" if job.rate_per_s else ""
    out().print(f"job {job.id} {job.state}: {job.applied:,} applied, {job.rejected:,} rejected{rate}")
    if job.detail:
        err().print(job.detail, markup=False)
    for error in errors[:SHOWN_ERRORS]:
        err().print(f"line {error.get('line')}: {error.get('error')}: {error.get('detail')}", markup=False)
    if len(errors) > SHOWN_ERRORS:
        err().print(f"... and {len(errors) - SHOWN_ERRORS:,} more: GET /v1/jobs/{job.id}/errors")


def _json_of(job: "Job") -> dict[str, Any]:
    names = ("state", "received", "applied", "rejected", "rate_per_s", "detail")
    return {"job": job.id} | {name: getattr(job, name) for name in names}
