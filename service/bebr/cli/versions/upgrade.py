"""`bebr upgrade`: another embedding model for a collection, step by step or all at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from bebr.client import Client, Job

app = typer.Typer(help="Change the embedding model of a collection, with nothing encoded anew.", no_args_is_help=True)

Collection = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
Version = Annotated[str, typer.Argument(help="Id of the version, such as minilm@2.", show_default=False)]
Queries = Annotated[
    Path | None,
    typer.Option("--queries", help='Judged queries, one a line: {"text": "...", "relevant": ["id"]}.', dir_okay=False),
]
Sample = Annotated[int | None, typer.Option(min=1, help="Without --queries: points that stand in, 300 unless given.")]
Points = Annotated[int | None, typer.Option(min=1, help="Points to measure on.", show_default="2000")]
AdapterOption = Annotated[
    str | None,
    typer.Option("--adapter", help="compatible, linear, dual or weighted.", show_default="the one that measures best"),
]
MinGain = Annotated[float, typer.Option(help="What new queries on old codes must gain over old queries on them.")]
Plot = Annotated[Path | None, typer.Option(help="Draw what was measured into a .png, .svg or .pdf; needs [train].")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its end.")]
Rate = Annotated[float | None, typer.Option("--rate", min=0, help="Points a second at most.", show_default="a setting")]


@app.command()
def status(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the versions of a collection, what was measured, and how far a backfill is."""
    from bebr.cli.output import print_json
    from bebr.cli.versions.tables import job_json, print_job, print_versions

    with _service(url, api_key) as service:
        found = service.list_versions(collection)
        job = service.get_job(found["backfill"]) if found["backfill"] else None
    if as_json:
        print_json({**found, "backfill": job and job_json(job)})
        return
    print_versions(found)
    if job is not None:
        print_job(job)


@app.command()
def attach(
    collection: Collection,
    bundle: Annotated[str, typer.Argument(help="Id of a bundle that the service has.", show_default=False)],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a bundle one more version of a collection; nothing is searched or written by it yet."""
    from bebr.cli.output import print_json
    from bebr.cli.versions.tables import print_versions

    with _service(url, api_key) as service:
        found = service.attach_version(collection, bundle)
    if as_json:
        print_json(found)
    else:
        print_versions(found)


@app.command()
def evaluate(
    collection: Collection,
    version: Annotated[str | None, typer.Argument(help="Id of the version.", show_default="the newest")] = None,
    queries: Queries = None,
    sample: Sample = None,
    points: Points = None,
    adapter: AdapterOption = None,
    plot: Plot = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a version would find: old and new queries on old, mixed and new codes, on a sample of the points.

    The result is kept, and the gate of `promote` goes by it. Nothing changes for searches.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import drawing, parse_adapter, read_queries, waiting
    from bebr.cli.versions.tables import print_matrix

    asked, draw = read_queries(queries), drawing(plot)
    with _service(url, api_key) as service, waiting("measuring"):
        measured = service.evaluate_version(
            collection, version, queries=asked, sample=sample, points=points, adapter=parse_adapter(adapter)
        )
    draw(measured)
    if as_json:
        print_json(measured)
    else:
        print_matrix(measured)


@app.command()
def promote(
    collection: Collection,
    version: Version,
    min_gain: MinGain = 0.0,
    force: Annotated[bool, typer.Option("--force", help="Promote though the gate refuses; it is recorded.")] = False,
    adapter: AdapterOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make queries and writes go by a version from now on; old codes are searched as they are.

    The last evaluation must have found a gain of at least --min-gain: else the numbers are shown, and the exit code
    is 1.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import pass_gate, tell

    with _service(url, api_key) as service:
        event = pass_gate(service, collection, version, min_gain, force, adapter, as_json)
    if as_json:
        print_json(event)
    else:
        tell(collection, event)


@app.command()
def rollback(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Undo the last promotion; points that were written or backfilled since are found as well."""
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import tell

    with _service(url, api_key) as service:
        event = service.rollback_version(collection)
    if as_json:
        print_json(event)
    else:
        tell(collection, event)


@app.command()
def backfill(
    collection: Collection,
    rate: Rate = None,
    wait: Wait = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Encode all points by the active version, from the texts that the collection keeps; a job that can be paused."""
    from bebr.cli.versions.steps import end_with, follow_to_end

    with _service(url, api_key) as service:
        job_id = service.backfill(collection, rate_limit=rate)
        job = follow_to_end(service, job_id, collection) if wait else service.get_job(job_id)
    end_with(job, as_json)


@app.command()
def pause(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Hold the backfill of a collection, also over a restart of the service."""
    _steer(collection, lambda service, job: service.pause_job(job), url, api_key, as_json)


@app.command()
def resume(
    collection: Collection, wait: Wait = False, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Let a backfill go on that was paused."""
    from bebr.cli.versions.steps import end_with, follow_to_end

    with _service(url, api_key) as service:
        job = service.resume_job(_job_of(service, collection))
        if wait:
            job = follow_to_end(service, job.id, collection)
    end_with(job, as_json)


@app.command()
def cancel(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """End the backfill of a collection; points that have new codes keep them."""
    _steer(collection, lambda service, job: service.cancel_job(job), url, api_key, as_json)


@app.command()
def retire(
    collection: Collection, version: Version, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Forget a version that no point has a code of."""
    from bebr.cli.output import print_json
    from bebr.cli.versions.tables import print_versions

    with _service(url, api_key) as service:
        found = service.retire_version(collection, version)
    if as_json:
        print_json(found)
    else:
        print_versions(found)


@app.command()
def run(
    collection: Collection,
    bundle: Annotated[str, typer.Argument(help="Id of a bundle that the service has.", show_default=False)],
    queries: Queries = None,
    min_gain: MinGain = 0.0,
    backfill: Annotated[bool, typer.Option("--backfill", help="Then encode all points anew, and wait.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before promotion.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Attach a bundle, measure it, ask, promote it where the gate lets it pass, and perhaps backfill.

    What was attached already is taken as it is, so that it can be run again.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import end_with, follow_to_end, pass_gate, read_queries, tell, waiting
    from bebr.cli.versions.tables import print_matrix

    asked, done = read_queries(queries), dict[str, Any]()
    with _service(url, api_key) as service:
        versions = service.list_versions(collection)["versions"]
        if not any(version["id"] == bundle and not version["retired"] for version in versions):
            service.attach_version(collection, bundle)
        with waiting("measuring"):
            done["evaluation"] = service.evaluate_version(collection, bundle, queries=asked)
        if not as_json:
            print_matrix(done["evaluation"])
        if not yes:
            typer.confirm(f"Promote '{bundle}' in '{collection}'?", abort=True, err=True)
        done["promotion"] = pass_gate(service, collection, bundle, min_gain, False, None, as_json)
        if not as_json:
            tell(collection, done["promotion"])
        job = follow_to_end(service, service.backfill(collection), collection) if backfill else None
    if job is not None:
        end_with(job, as_json, done)
    elif as_json:
        print_json(done)


def _steer(
    collection: str, change: "Callable[[Client, str], Job]", url: str | None, api_key: str | None, as_json: bool
) -> None:
    from bebr.cli.versions.steps import tell_job

    with _service(url, api_key) as service:
        job = change(service, _job_of(service, collection))
    tell_job(job, as_json)


def _job_of(service: "Client", collection: str) -> str:
    """The last backfill of a collection. Raises JobNotFound."""
    from bebr.errors import JobNotFound

    job: str | None = service.list_versions(collection)["backfill"]
    if job is None:
        raise JobNotFound(f"no backfill was asked for in '{collection}'; bebr upgrade backfill starts one")
    return job


def _service(url: str | None, api_key: str | None) -> "Client":
    from bebr.cli.options import client

    return client(url, api_key)
