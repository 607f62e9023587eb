"""Steps that several `bebr upgrade` commands share: promote, follow a backfill, read queries, draw an evaluation."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bebr.cli.extra import train_extra
from bebr.cli.files.json_files import json_objects
from bebr.cli.options import parse_choice
from bebr.cli.output import err, out, print_json
from bebr.cli.versions.tables import follow, job_json, print_job, print_matrix
from bebr.client import Client, Job
from bebr.encoding import AdapterKind
from bebr.errors import Conflict, InvalidOption


def promote_behind_gate(
    service: Client, collection: str, version: str, min_gain: float, force: bool, adapter: str | None, as_json: bool
) -> dict[str, Any]:
    """Promote a version and return the event. Where the gate refuses, print the evaluation, then raise Conflict."""
    try:
        return service.promote_version(
            collection, version, min_gain=min_gain, force=force, adapter=parse_adapter(adapter)
        )
    except Conflict as refused:
        if "evaluation" in refused.fields:
            measured = refused.fields["evaluation"]
            if as_json:
                print_json({"refused": refused.detail, "min_gain": min_gain, "evaluation": measured})
            else:
                print_matrix(measured)
        raise


def print_event(collection: str, event: dict[str, Any]) -> None:
    """Print what a promotion or a rollback did."""
    kind = event.get("adapter")
    through = f" {event['from']}'s codes are searched through the {kind} adapter." if kind else ""
    forced = " (forced)" if event.get("forced") else ""
    out().print(
        f"'{collection}': active version is now {event['to']} (was {event['from']}){forced}.{through}", markup=False
    )


def follow_to_end(service: Client, job_id: str, collection: str) -> Job:
    """Wait for the end of a backfill. Ctrl-C stops waiting, not the backfill."""
    try:
        return follow(service, job_id, collection)
    except KeyboardInterrupt:
        err().print(f"the backfill continues; stop it with bebr upgrade cancel {collection}", markup=False)
        return service.get_job(job_id)


def end_with(job: Job, as_json: bool, beside: dict[str, Any] | None = None) -> None:
    """Print a backfill; exit with code 1 if it failed or was cancelled."""
    show_job(job, as_json, beside)
    if job.ended and job.state != "succeeded":
        sys.exit(1)


def show_job(job: Job, as_json: bool, beside: dict[str, Any] | None = None) -> None:
    """Print a backfill as a line or as JSON. beside: further keys of the JSON document."""
    if not as_json:
        print_job(job)
    else:
        print_json(job_json(job) if beside is None else {**beside, "backfill": job_json(job)})


def read_queries(path: Path | None) -> list[dict[str, Any]] | None:
    """The queries of --queries. Raises InvalidOption; Malformed with the line number."""
    if path is None:
        return None
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}'", file=str(path))
    queries = list(json_objects(path))
    if not queries:
        raise InvalidOption(
            f"'{path}' has no queries: expected lines such as {json.dumps({'text': '...', 'relevant': ['id']})}"
        )
    return queries


def drawing(path: Path | None) -> Callable[[Mapping[str, Any]], None]:
    """The function that plots an evaluation to a file, if one is given. Raises InvalidOption before the work begins."""
    if path is None:
        return lambda evaluation: None
    with train_extra():
        from bebr_training.reports.recall_plot import check_suffix
        from bebr_training.reports.upgrade_plot import plot_upgrade
    check_suffix(path)
    return lambda evaluation: plot_upgrade(evaluation, path)


def parse_adapter(given: str | None) -> str | None:
    """The kind of --adapter. Raises InvalidOption."""
    return None if given is None else parse_choice(AdapterKind, given, "--adapter")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows a spinner on a terminal."""
    with err().status(what):
        yield
