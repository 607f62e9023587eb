"""`bebr upgrade`: change the embedding model of a collection, step by step or all at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from bebr.client import Client, Job

app = typer.Typer(help="Change the embedding model of a collection without re-encoding it.", no_args_is_help=True)

Collection = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
Version = Annotated[str, typer.Argument(help="Id of the version, such as minilm@3.", show_default=False)]
Queries = Annotated[
    Path | None,
    typer.Option(
        "--queries",
        help='File of queries with relevance judgments, one per line: {"text": "...", "relevant": ["id"]}.',
        dir_okay=False,
    ),
]
Sample = Annotated[
    int | None,
    typer.Option(min=1, help="Without --queries: number of points that serve as queries.", show_default="300"),
]
Points = Annotated[int | None, typer.Option(min=1, help="Number of points to measure on.", show_default="2000")]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="Kind of adapter: compatible, linear, dual or weighted.",
        show_default="the one that measures best",
    ),
]
MinGain = Annotated[float, typer.Option(help="Minimum gain of new queries on old codes over old queries on old codes.")]
Plot = Annotated[
    Path | None, typer.Option(help="Plot the evaluation to a .png, .svg or .pdf file; needs the extra [train].")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
Rate = Annotated[
    float | None,
    typer.Option("--rate", min=0, help="Maximum points per second.", show_default="BEBR_BACKFILL_POINTS_PER_S"),
]


@app.command()
def status(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show the versions of a collection, their evaluations, and the progress of a backfill."""
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
    bundle: Annotated[str, typer.Argument(help="Id of a bundle in the service.", show_default=False)],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Attach a bundle to a collection as a new version. Searches and writes do not use it yet."""
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
    """Measure a version on a sample of the points: old and new queries on old, mixed and new codes.

    The result is stored, and the gate of `promote` checks it. Searches do not change.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import drawing, parse_adapter, read_queries, waiting
    from bebr.cli.versions.tables import print_matrix

    judged_queries, draw = read_queries(queries), drawing(plot)
    with _service(url, api_key) as service, waiting("evaluating"):
        measured = service.evaluate_version(
            collection, version, queries=judged_queries, sample=sample, points=points, adapter=parse_adapter(adapter)
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
    force: Annotated[
        bool, typer.Option("--force", help="Promote even if the gate refuses; the history records it.")
    ] = False,
    adapter: AdapterOption = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a version active: queries and writes use its model from now on. Existing codes are searched as they are.

    The last evaluation must show a gain of at least --min-gain. Otherwise the evaluation is printed and the exit code
    is 1.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import print_event, promote_behind_gate

    with _service(url, api_key) as service:
        event = promote_behind_gate(service, collection, version, min_gain, force, adapter, as_json)
    if as_json:
        print_json(event)
    else:
        print_event(collection, event)


@app.command()
def rollback(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Undo the last promotion. Points that were written or backfilled since then stay searchable."""
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import print_event

    with _service(url, api_key) as service:
        event = service.rollback_version(collection)
    if as_json:
        print_json(event)
    else:
        print_event(collection, event)


@app.command()
def backfill(
    collection: Collection,
    rate: Rate = None,
    wait: Wait = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Re-encode all points with the active version, from the texts that the collection keeps. The job can be paused."""
    from bebr.cli.versions.steps import end_with, follow_to_end

    with _service(url, api_key) as service:
        job_id = service.backfill(collection, rate_limit=rate)
        job = follow_to_end(service, job_id, collection) if wait else service.get_job(job_id)
    end_with(job, as_json)


@app.command()
def pause(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Pause the backfill of a collection. It stays paused when the service restarts."""
    _change_backfill(collection, lambda service, job: service.pause_job(job), url, api_key, as_json)


@app.command()
def resume(
    collection: Collection, wait: Wait = False, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Resume a paused backfill."""
    from bebr.cli.versions.steps import end_with, follow_to_end

    with _service(url, api_key) as service:
        job = service.resume_job(_backfill_of(service, collection))
        if wait:
            job = follow_to_end(service, job.id, collection)
    end_with(job, as_json)


@app.command()
def cancel(collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Cancel the backfill of a collection. Points that were re-encoded keep their new codes."""
    _change_backfill(collection, lambda service, job: service.cancel_job(job), url, api_key, as_json)


@app.command()
def retire(
    collection: Collection, version: Version, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Retire a version that no point has a code of."""
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
    bundle: Annotated[str, typer.Argument(help="Id of a bundle in the service.", show_default=False)],
    queries: Queries = None,
    min_gain: MinGain = 0.0,
    backfill: Annotated[bool, typer.Option("--backfill", help="Afterwards re-encode all points, and wait.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Promote without asking.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Attach a bundle, evaluate it, ask, promote it if the gate passes, and optionally backfill.

    It can be run again: a version that is attached already is used as it is.
    """
    from bebr.cli.output import print_json
    from bebr.cli.versions.steps import end_with, follow_to_end, print_event, promote_behind_gate, read_queries, waiting
    from bebr.cli.versions.tables import print_matrix

    judged_queries, done = read_queries(queries), dict[str, Any]()
    with _service(url, api_key) as service:
        versions = service.list_versions(collection)["versions"]
        if not any(version["id"] == bundle and not version["retired"] for version in versions):
            service.attach_version(collection, bundle)
        with waiting("evaluating"):
            done["evaluation"] = service.evaluate_version(collection, bundle, queries=judged_queries)
        if not as_json:
            print_matrix(done["evaluation"])
        if not yes:
            typer.confirm(f"Promote '{bundle}' in '{collection}'?", abort=True, err=True)
        done["promotion"] = promote_behind_gate(service, collection, bundle, min_gain, False, None, as_json)
        if not as_json:
            print_event(collection, done["promotion"])
        job = follow_to_end(service, service.backfill(collection), collection) if backfill else None
    if job is not None:
        end_with(job, as_json, done)
    elif as_json:
        print_json(done)


def _change_backfill(
    collection: str, change: "Callable[[Client, str], Job]", url: str | None, api_key: str | None, as_json: bool
) -> None:
    from bebr.cli.versions.steps import show_job

    with _service(url, api_key) as service:
        job = change(service, _backfill_of(service, collection))
    show_job(job, as_json)


def _backfill_of(service: "Client", collection: str) -> str:
    """The last backfill of a collection. Raises JobNotFound."""
    from bebr.errors import JobNotFound

    job: str | None = service.list_versions(collection)["backfill"]
    if job is None:
        raise JobNotFound(f"collection '{collection}' has no backfill; start one with bebr upgrade backfill")
    return job


def _service(url: str | None, api_key: str | None) -> "Client":
    from bebr.cli.options import client

    return client(url, api_key)
