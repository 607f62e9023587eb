"""`bebr points`: read, count and delete points."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url
from bebr.cli.points.search import Filters, Show

if TYPE_CHECKING:
    from bebr.client import Point

app = typer.Typer(help="Points of a collection.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
Ids = Annotated[list[str], typer.Argument(help="Ids of points.", show_default=False)]
SomeIds = Annotated[list[str] | None, typer.Argument(help="Ids of points; or give --filter.", show_default=False)]
WithCode = Annotated[bool, typer.Option("--with-code", help="Show codes too, as base64.")]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Number of points.", show_default="all")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, where a filter chooses.")]


@app.command("get")
def get(
    name: Name,
    ids: Ids,
    with_code: WithCode = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Print points by id, one JSON object a line. A point that is missing makes exit code 1."""
    from bebr.cli.options import client
    from bebr.cli.output import err, print_json

    with client(url, api_key) as service:
        found = service.get(name, ids, with_code=with_code)
    points = [_json_of(point) for point in found.points]
    if as_json:
        print_json({"points": points, "missing": found.missing})
    else:
        for point in points:
            print(json.dumps(point, ensure_ascii=False))
        for missing in found.missing:
            err().print(f"no point {missing!r} in '{name}'", markup=False)
    if found.missing:
        sys.exit(1)


@app.command("scroll")
def scroll(
    name: Name,
    filter: Filters = None,
    show: Show = None,
    limit: Limit = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Print points by ascending id, one JSON object a line."""
    from itertools import islice

    from bebr.cli.options import client, parse_filter

    fields: bool | Sequence[str] = True if show is None else [part.strip() for part in show.split(",")]
    with client(url, api_key) as service:
        page = min(limit or 1000, 1000)
        points = service.scroll(name, parse_filter(filter or ()), with_metadata=fields, page_points=page)
        for point in islice(points, limit):
            print(json.dumps(_json_of(point), ensure_ascii=False))


@app.command("count")
def count(name: Name, filter: Filters = None, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Count points: all, or those that match."""
    from bebr.cli.options import client, parse_filter
    from bebr.cli.output import print_json

    with client(url, api_key) as service:
        found = service.count(name, parse_filter(filter or ()))
    print_json({"count": found}) if as_json else print(found)


@app.command("delete")
def delete(
    name: Name,
    ids: SomeIds = None,
    filter: Filters = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete points by ids or by filter."""
    from bebr.cli.options import client, confirm, parse_filter
    from bebr.cli.output import print_result
    from bebr.errors import InvalidOption

    if bool(ids) == bool(filter):
        raise InvalidOption("give either ids or --filter")
    condition = parse_filter(filter or ())
    with client(url, api_key) as service:
        if condition is not None and not dry_run:
            confirm(f"delete {service.count(name, condition):,} points of '{name}'", yes)
        deleted = service.delete(name, ids or None, filter=condition, dry_run=dry_run)
    done = "would delete" if dry_run else "deleted"
    print_result({done.replace(" ", "_"): deleted}, as_json, f"{done} {deleted:,} points of '{name}'")


def _json_of(point: "Point") -> dict[str, Any]:
    from base64 import b64encode

    shown: dict[str, Any] = {"id": point.id, "version": point.version, "metadata": point.metadata}
    return shown if point.code is None else shown | {"code_b64": b64encode(point.code).decode()}
