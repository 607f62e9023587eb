"""`bebr collection`: create, list, show, change and delete collections, and fit them."""

import json
from typing import Annotated, Any

import typer

from bebr.cli.models import collection_fit
from bebr.cli.options import ApiKey, AsJson, Url

app = typer.Typer(help="Collections of a service.", no_args_is_help=True)
app.command("fit")(collection_fit.fit)

Name = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
NewName = Annotated[str, typer.Argument(help="Name of the new collection.", show_default=False)]
OwnName = Annotated[str, typer.Argument(help="Collection; not an alias.", show_default=False)]
BundleId = Annotated[str | None, typer.Option("--bundle", help="Bundle that encodes texts, such as minilm@2.")]
Code = Annotated[str | None, typer.Option("--code", help="CodeSpec such as 256x2, for codes of your own.")]
Dims = Annotated[int | None, typer.Option("--dims", min=1, help="Dims of vectors of your own.")]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        help='A binarizer of its own, as JSON: {"bytes": 64, "rescore_bytes": 128}; or true, or false.',
        show_default="true with --dims, false with --bundle",
    ),
]
Shards = Annotated[int | None, typer.Option(min=1, help="Slices that are scanned in parallel.", show_default="2")]
Filterable = Annotated[
    list[str] | None, typer.Option(help="Metadata fields that filters may use: price=float,category=keyword; or auto.")
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--filterable",
        help="Fields that filters may use from now on, or with another type: year=integer; none drops one.",
    ),
]
TextField = Annotated[str | None, typer.Option(help="Metadata field that keeps the texts of points.")]
Recall = Annotated[
    str | None,
    typer.Option(help="Share of the exact hits that searches find, 0.5 to 0.999; or none: all are exact."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("create")
def create(
    name: NewName,
    bundle: BundleId = None,
    code: Code = None,
    dims: Dims = None,
    fit: Fit = None,
    shards: Shards = None,
    filterable: Filterable = None,
    text_field: TextField = None,
    recall: Recall = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Create a collection without points. `bebr ingest` creates one by itself for the files that it is given."""
    from bebr.cli.options import client, parse_fields
    from bebr.cli.output import print_result
    from bebr.errors import InvalidOption

    try:
        plan = None if fit is None else json.loads(fit)
    except ValueError as error:
        raise InvalidOption(f"--fit is not valid JSON: {error}", option="fit") from None
    fields: Any = parse_fields(filterable or ())
    options: dict[str, Any] = {} if recall is None else {"recall": _recall(recall)}
    with client(url, api_key) as service:
        made = service.create_collection(
            name,
            bundle=bundle,
            code=code,
            dims=dims,
            fit=plan,
            shards=shards,
            filterable=fields or None,
            text_field=text_field,
            **options,
        )
    print_result(made, as_json, f"created '{name}': {made['code']}, {made['code_bytes']} bytes per point")


@app.command("list")
def list_(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the collections and their aliases."""
    from bebr.cli.options import client
    from bebr.cli.points.inspect import show_collections

    with client(url, api_key) as service:
        show_collections(service, as_json)


@app.command("show")
def show(name: Name, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show one collection: points by code version, fields, fit, memory."""
    from bebr.cli.options import client
    from bebr.cli.points.inspect import show_found

    with client(url, api_key) as service:
        show_found(service.describe_collection(name), as_json)


@app.command("set")
def set_(
    name: Name,
    recall: Recall = None,
    filterable: Fields = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Change a collection; what is not given stays. It waits until filters can use fields that are added."""
    from bebr.cli.options import client, parse_fields
    from bebr.cli.output import print_result
    from bebr.errors import Conflict, InvalidOption

    changes: dict[str, Any] = {} if recall is None else {"recall": _recall(recall)}
    if filterable is not None:
        changes["filterable"] = parse_fields(filterable, drops=True)
    if not changes:
        raise InvalidOption("nothing to change: give --recall or --filterable")
    with client(url, api_key) as service:
        changed = service.update_collection(name, **changes)
        if (job := changed.get("job")) is not None:
            ended = service.wait_job(job)
            if ended.state != "succeeded":
                raise Conflict(f"job {job} {ended.state}: {ended.detail}")
            changed = service.describe_collection(name)
    fields = ", ".join(f"{key} {kind}" for key, kind in changed["filterable"].items()) or "none"
    recalls = "none" if changed["recall"] is None else changed["recall"]
    print_result(changed, as_json, f"'{name}': recall {recalls}, filterable fields: {fields}")


@app.command("delete")
def delete(name: OwnName, yes: Yes = False, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Delete a collection with all its points and the aliases that point to it."""
    from bebr.cli.options import client, confirm
    from bebr.cli.output import print_result

    with client(url, api_key) as service:
        points = service.describe_collection(name)["points"]
        confirm(f"delete '{name}' with {points:,} points", yes)
        service.delete_collection(name)
    print_result({"deleted": name, "points": points}, as_json, f"deleted '{name}' with {points:,} points")


def _recall(given: str) -> float | None:
    from bebr.errors import InvalidOption

    try:
        return None if given.lower() == "none" else float(given)
    except ValueError:
        raise InvalidOption(f"--recall: expected a number from 0.5 to 0.999, or none, got '{given}'") from None
