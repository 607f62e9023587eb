"""`bebr export`, `bebr import`, `bebr copy`: whole collections, exactly as they are."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url, refuse

if TYPE_CHECKING:
    from bebr.client import Client

BATCH_POINTS = 1000
BATCH_BYTES = 8 << 20

Name = Annotated[str, typer.Argument(help="Collection or alias.", show_default=False)]
OutFile = Annotated[
    Path, typer.Argument(help="File that ends in .ndjson, .ndjson.gz or .parquet.", show_default=False, dir_okay=False)
]
InFile = Annotated[Path, typer.Argument(help="File that `bebr export` wrote.", show_default=False, dir_okay=False)]
NewName = Annotated[
    str | None, typer.Option("--collection", "-c", help="Name of the new collection.", show_default="the one it had")
]
Aliases = Annotated[bool, typer.Option("--aliases", help="Set its aliases too; aliases of these names are moved.")]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        envvar="BEBR_URL",
        help="URL of a service, or a store that no service runs on: its data folder, or redis://...",
        show_default="that of --url of other commands",
    ),
]
Destination = Annotated[
    str | None,
    typer.Option(
        "--to", envvar="BEBR_URL", help="The same, for where it goes.", show_default="that of --url of other commands"
    ),
]
DestinationKey = Annotated[
    str | None,
    typer.Option(
        "--to-api-key", envvar="BEBR_TO_API_KEY", show_envvar=True, help="API key of --to.", show_default="--api-key"
    ),
]


def export(name: Name, file: OutFile, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Write a collection to a file: its definition, fitted binarizers, aliases, and all points with codes and metadata.

    `bebr import` makes an equal collection of it. Every point that is there during the whole export is in the file
    once, as it was at some moment of it; points that are written or deleted meanwhile may be there or not. Where code
    versions change meanwhile, the export fails.
    """
    from bebr.cli.files.exports import writing
    from bebr.cli.options import client
    from bebr.cli.output import print_result

    with client(url, api_key) as service:
        definition = service.get_definition(name)
        with writing(file, definition) as export:
            count = 0
            for points in _pages(service, name, definition):
                export.add(points)
                count += len(points)
    done = {"collection": name, "points": count, "file": str(file)}
    print_result(done, as_json, f"exported {count:,} points of '{name}' to {file}")


def import_(
    file: InFile,
    collection: NewName = None,
    aliases: Aliases = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a collection of an export: with the same codes, so that it answers searches as the first one did.

    The whole file is checked before anything is sent. The collection must not exist; it answers nothing before all of
    it is there, and is deleted again if something fails. What an import that was killed has left, the next one
    replaces. The service needs the bundles that the collection was made with.
    """
    from bebr.cli.files.exports import read_header, read_points
    from bebr.cli.options import client
    from bebr.cli.output import print_result

    definition = read_header(file)
    count = sum(1 for _ in read_points(file))
    with client(url, api_key) as service:
        name = _create(service, collection, definition, _batches(read_points(file)), count, aliases)
    print_result({"collection": name, "points": count}, as_json, f"imported {count:,} points to '{name}'")


def copy(
    context: typer.Context,
    name: Name,
    collection: NewName = None,
    source: Source = None,
    destination: Destination = None,
    aliases: Aliases = False,
    api_key: ApiKey = None,
    to_api_key: DestinationKey = None,
    as_json: AsJson = False,
) -> None:
    """Copy a collection from one service or store to another, as `export` and `import` do, without a file.

    A store is opened by this command itself: with --from bebr-data --to redis://localhost a collection goes from SQLite
    to Redis.
    """
    from bebr.cli.output import print_result
    from bebr.errors import InvalidOption

    if source == destination and collection in (None, name):
        raise InvalidOption("give --from, --to, or another name with --collection: nothing would be copied")
    if not _is_service(destination):
        refuse(context, "to_api_key", "is of a service, and --to is a store")
        if not _is_service(source):
            refuse(context, "api_key", "is of a service, and --from and --to are stores")
    with _opened(source, api_key, must_exist=True) as here, _opened(destination, to_api_key or api_key) as there:
        definition = here.get_definition(name)
        pages = _pages(here, name, definition)
        copied = _Counted(pages)
        new = _create(there, collection, definition, copied, None, aliases)
    print_result({"collection": new, "points": copied.count}, as_json, f"copied {copied.count:,} points to '{new}'")


class _Counted:
    """Pages of points, counted as they pass."""

    def __init__(self, pages: Iterable[list[dict[str, Any]]]) -> None:
        self._pages = pages
        self.count = 0

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for page in self._pages:
            self.count += len(page)
            yield page


def _pages(service: "Client", name: str, definition: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """All points, with progress. Raises Conflict where the codes are no longer those of the definition."""
    from bebr.cli.output import shown_progress
    from bebr.errors import Conflict

    cursor, count = None, 0
    with shown_progress("reading points") as show:
        while True:
            page = service.export_page(name, cursor=cursor)
            count += len(page["points"])
            show(count, max(definition["points"], count), "reading points")
            yield page["points"]
            if (cursor := page["cursor"]) is None:
                break
    now = service.get_definition(name)
    for part in ("versions", "active", "filterable"):
        if now["collection"][part] != definition["collection"][part]:
            raise Conflict(f"the {part} of '{name}' changed while it was read; do it again once its jobs have ended")


def _create(
    service: "Client",
    name: str | None,
    definition: Mapping[str, Any],
    batches: Iterable[list[dict[str, Any]]],
    total: int | None,
    aliases: bool,
) -> str:
    """The collection with all of its points, or none. -> its name."""
    import secrets

    from bebr.cli.output import shown_progress
    from bebr.errors import BebrError, Conflict

    name, import_id = name or str(definition["name"]), secrets.token_hex(8)
    service.create_from_definition(name, definition, import_id=import_id)
    try:
        done = 0
        with shown_progress("writing points") as show:
            for points in batches:
                for some in _parts(points):
                    report = service.import_points(name, some, import_id=import_id)
                    if report.items:
                        item = report.items[0]
                        raise Conflict(f"point {done + item.index + 1} ({item.id!r:.80}): {item.error}: {item.detail}")
                    done += len(some)
                    show(done, total, "writing points")
        service.import_points(name, [], import_id=import_id, last=True)
    except BaseException:
        with suppress(BebrError):  # the service may be what is gone
            service.import_points(name, [], import_id=import_id)  # Conflict: it is another import's by now
            service.delete_collection(name)
        raise
    if aliases and definition["aliases"]:
        service.update_aliases([{"create": {"alias": alias, "collection": name}} for alias in definition["aliases"]])
    return name


def _batches(points: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for point in points:
        batch.append(point)
        if len(batch) == BATCH_POINTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _parts(points: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Of no more bytes than a request may have."""
    from bebr.client.values import to_json

    part: list[dict[str, Any]] = []
    size = 0
    for point in points:
        more = len(to_json(point))
        if part and size + more > BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(point)
        size += more
    if part:
        yield part


def _is_service(place: str | None) -> bool:
    return place is None or place.startswith(("http://", "https://"))


@contextmanager
def _opened(place: str | None, api_key: str | None, must_exist: bool = False) -> Iterator["Client"]:
    """A client of the service at a URL, or of one that this command runs on a store as long as it needs it."""
    import tempfile
    from dataclasses import replace

    from bebr.cli.options import client
    from bebr.errors import InvalidOption

    if place is None or _is_service(place):
        with client(place, api_key) as service:
            yield service
        return
    from bebr.cli.server.running import Service
    from bebr.client import Client
    from bebr.config import load_settings

    given: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "api_keys": (), "read_only_api_keys": ()}
    with tempfile.TemporaryDirectory(prefix="bebr-copy-") as scratch:
        if "://" in place:
            given |= {"redis_url": place, "data_dir": Path(scratch)}
        elif must_exist and not Path(place).is_dir():
            raise InvalidOption(f"there is no folder '{place}'", file=place)
        else:
            given |= {"redis_url": None, "data_dir": Path(place)}
        with Service(replace(load_settings(), **given)) as running, Client(running.url) as service:
            yield service
