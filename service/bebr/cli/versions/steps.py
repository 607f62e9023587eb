"""What several commands of `bebr upgrade` do: promote behind the gate, follow a backfill, read judged queries."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bebr.cli.extra import train_extra
from bebr.cli.options import parse_choice
from bebr.cli.output import err, out, print_json
from bebr.cli.points.sources import lines_of_json, open_text
from bebr.cli.versions.tables import follow, job_json, print_job, print_matrix
from bebr.client import Client, Job
from bebr.encoding import AdapterKind
from bebr.errors import Conflict, InvalidOption


def pass_gate(
    service: Client, collection: str, version: str, min_gain: float, force: bool, adapter: str | None, as_json: bool
) -> dict[str, Any]:
    """The event. Where the gate refuses, what was measured is printed before Conflict is raised."""
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


def tell(collection: str, event: dict[str, Any]) -> None:
    through = (
        f" {event['from']}'s codes are searched through the {kind} adapter." if (kind := event.get("adapter")) else ""
    )
    forced = " (forced)" if event.get("forced") else ""
    out().print(
        f"'{collection}': active version is now {event['to']} (was {event['from']}){forced}.{through}", markup=False
    )


def follow_to_end(service: Client, job_id: str, collection: str) -> Job:
    """Ctrl-C ends the waiting, not the backfill."""
    try:
        return follow(service, job_id, collection)
    except KeyboardInterrupt:
        err().print(f"the backfill goes on; bebr upgrade cancel {collection} ends it", markup=False)
        return service.get_job(job_id)


def end_with(job: Job, as_json: bool, beside: dict[str, Any] | None = None) -> None:
    """Print a backfill; exit code 1 where it failed or was cancelled."""
    tell_job(job, as_json, beside)
    if job.ended and job.state != "succeeded":
        sys.exit(1)


def tell_job(job: Job, as_json: bool, beside: dict[str, Any] | None = None) -> None:
    if not as_json:
        print_job(job)
    else:
        print_json(job_json(job) if beside is None else {**beside, "backfill": job_json(job)})


def read_queries(path: Path | None) -> list[dict[str, Any]] | None:
    """Raises InvalidOption, Malformed naming the line."""
    if path is None:
        return None
    if not path.is_file():
        raise InvalidOption(f"there is no file '{path}'", file=str(path))
    with open_text(path) as lines:
        queries = list(lines_of_json(lines))
    if not queries:
        raise InvalidOption(f"'{path}' holds no queries: expected {json.dumps({'text': '...', 'relevant': ['id']})}")
    return queries


def drawing(path: Path | None) -> Callable[[Mapping[str, Any]], None]:
    """What draws an evaluation into a file, or nothing. Raises InvalidOption before the work rather than after it."""
    if path is None:
        return lambda evaluation: None
    with train_extra():
        from bebr_training.reports.recall_plot import check_suffix
        from bebr_training.reports.upgrade_plot import plot_upgrade
    check_suffix(path)
    return lambda evaluation: plot_upgrade(evaluation, path)


def parse_adapter(given: str | None) -> str | None:
    return None if given is None else parse_choice(AdapterKind, given, "--adapter")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says what is waited for, on a terminal."""
    with err().status(what):
        yield
