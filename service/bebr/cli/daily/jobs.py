"""`bebr jobs`: ingestions, backfills and fits of a service."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from bebr.client import Job

app = typer.Typer(help="Jobs of a service: ingestions, backfills and fits.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of the job.", show_default=False)]
Errors = Annotated[bool, typer.Option("--errors", help="Print the rejected lines too, one JSON object a line.")]


@app.command("list")
def list_(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the jobs, the newest first."""
    from bebr.cli.options import client
    from bebr.cli.output import out, print_json, table

    with client(url, api_key) as service:
        jobs = service.list_jobs()
    if as_json:
        print_json({"jobs": [job_json(job) for job in jobs]})
        return
    rows = table("job", "kind", "collection", "state", "applied", "rejected", right=("applied", "rejected"))
    for job in jobs:
        kind, collection = str(job.other.get("kind", "")), str(job.other.get("collection", ""))
        rows.add_row(job.id, kind, collection, str(job.state), f"{job.applied:,}", f"{job.rejected:,}")
    out().print(rows if jobs else "no jobs yet")


@app.command("show")
def show(job: JobId, errors: Errors = False, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show one job."""
    from bebr.cli.options import client

    with client(url, api_key) as service:
        found = service.get_job(job)
        rejected = service.job_errors(job) if errors else None
    _print(found, as_json, rejected)


@app.command("wait")
def wait(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Wait until a job has ended. Exit code 1 unless it succeeded."""
    from bebr.cli.options import client
    from bebr.cli.output import shown_progress

    with client(url, api_key) as service, shown_progress("waiting") as show:

        def shown(job: "Job") -> None:
            done = job.applied + job.rejected
            show(done, done if job.ended else None, str(job.state))

        found = service.wait_job(job, progress=shown)
    _print(found, as_json)
    if found.state != "succeeded":
        sys.exit(1)


@app.command("cancel")
def cancel(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel a job; what was applied stays."""
    from bebr.cli.options import client

    with client(url, api_key) as service:
        found = service.cancel_job(job)
    _print(found, as_json)


def job_json(job: "Job") -> dict[str, Any]:
    """A job as the API shows it."""
    names = ("state", "received", "applied", "rejected", "rate_per_s", "eta_s", "detail", "total", "remaining")
    known = {name: getattr(job, name) for name in names}
    return {"job": job.id} | {name: value for name, value in known.items() if value is not None} | job.other


def _print(job: "Job", as_json: bool, errors: list[dict[str, Any]] | None = None) -> None:
    import json

    from bebr.cli.output import err, out, print_json

    if as_json:
        print_json(job_json(job) | ({} if errors is None else {"errors": errors}))
        return
    out().print(f"job {job.id} {job.state}: {job.applied:,} applied, {job.rejected:,} rejected", markup=False)
    if job.detail:
        err().print(job.detail, markup=False)
    for error in errors or ():
        print(json.dumps(error, ensure_ascii=False))
