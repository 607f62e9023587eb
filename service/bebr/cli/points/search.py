"""`bebr search`: the nearest points of a collection, as a table or as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url

if TYPE_CHECKING:
    from rich.table import Table

    from bebr.client import Hit, SearchResult
    from bebr.client.points import SearchOptions

DESCRIBING_FIELDS = ("summary", "title", "description", "text", "body", "name")
"""Metadata fields that describe a hit. The first one that exists gets the widest column."""
NARROW_CHARS = 16
NARROW_COLUMNS = 2
MIN_CHARS = 12


Query = Annotated[str | None, typer.Argument(help="Text to search for.", show_default=False)]
Like = Annotated[str | None, typer.Option(help="Instead of a text: find points like the one with this id.")]
VectorFile = Annotated[
    Path | None,
    typer.Option("--vector", help="Instead of a text: a .npy file with one vector.", exists=True, dir_okay=False),
]
Collection = Annotated[str, typer.Option("--collection", "-c", help="Collection or alias.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of hits.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", help="key=value, or a filter of the API as JSON; all must match."),
]
ScorerName = Annotated[
    str | None, typer.Option("--scorer", help="adc, sdc or hamming.", show_default="chosen by the service")
]
Rescore = Annotated[
    bool | None,
    typer.Option(
        "--rescore/--no-rescore",
        help="Score the best candidates again by their rescore codes.",
        show_default="where points have some",
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of candidates to score again by their rescore codes.", show_default="as many as are enough"
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="Compare all codes, instead of the lists that may have hits.")]
Recall = Annotated[
    float | None,
    typer.Option(
        help="Share of the hits of an exact search to find, on average: 0.5 to 0.999.",
        show_default="that of the collection",
    ),
]
Show = Annotated[
    str | None,
    typer.Option(help="Metadata fields to show, separated by commas.", show_default="the most descriptive ones"),
]


def search(
    text: Query = None,
    like: Like = None,
    vector: VectorFile = None,
    collection: Collection = "python-docs",
    limit: Limit = 10,
    filter: Filters = None,
    scorer: ScorerName = None,
    rescore: Rescore = None,
    candidates: Candidates = None,
    exact: Exact = False,
    recall: Recall = None,
    show: Show = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Search a collection by meaning: with a text, with a vector, or for points like one of them."""
    from bebr.cli.options import client, parse_filter
    from bebr.cli.output import print_json

    options = _query(text, like, vector)
    options["limit"] = limit
    options.update(_how(rescore, candidates, exact, recall))
    if (parsed := parse_filter(filter or ())) is not None:
        options["filter"] = parsed
    if scorer:
        options["scorer"] = scorer
    if fields := _fields(show):
        options["with_metadata"] = fields
    with client(url, api_key) as service:
        result = service.search(collection, text, **options)
    if as_json:
        print_json(_json_of(result))
    else:
        _print(result, fields)


def _query(text: str | None, like: str | None, vector: Path | None) -> "SearchOptions":
    """What is searched for where that is no text. Raises InvalidOption where the file is no vector."""
    from bebr.client.points import SearchOptions

    given = sum(each is not None for each in (text, like, vector))
    if given != 1:
        raise typer.BadParameter(f"expected one of a text, --like and --vector, got {given} of them")
    if vector is not None:
        return SearchOptions(vector=_read_vector(vector))
    return SearchOptions(id=like) if like is not None else SearchOptions()


def _read_vector(path: Path) -> list[float]:
    import numpy as np

    from bebr.errors import InvalidOption

    try:
        with path.open("rb") as stream:
            values = np.lib.format.read_array(stream, allow_pickle=False)
        if values.size != max(values.shape, default=0):
            raise ValueError(f"an array of shape {values.shape}")
        return [float(value) for value in values.reshape(-1)]
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise InvalidOption(f"--vector: expected a .npy file with one vector, got {error}", option="vector") from error


def _how(rescore: bool | None, candidates: int | None, exact: bool, recall: float | None) -> "SearchOptions":
    """How much is looked at. Raises InvalidOption for options of which one makes the other idle."""
    from bebr.client.points import SearchOptions
    from bebr.errors import InvalidOption

    if candidates is not None and rescore is False:
        raise InvalidOption("--candidates does not apply with --no-rescore", option="candidates")
    if recall is not None and exact:
        raise InvalidOption("--recall does not apply with --exact, which finds all", option="recall")
    options = SearchOptions()
    if candidates is not None:
        options["rescore"] = {"candidates": candidates}
    elif rescore is not None:
        options["rescore"] = rescore
    if exact:
        options["exact"] = True
    if recall is not None:
        options["recall"] = recall
    return options


def _fields(show: str | None) -> list[str] | None:
    """Names of metadata fields. Raises InvalidOption where one is empty."""
    from bebr.errors import InvalidOption

    fields = [name.strip() for name in show.split(",")] if show is not None else None
    if fields is not None and not all(fields):
        raise InvalidOption(
            f"--show: expected names of metadata fields such as title,year, got {show!r}", option="show"
        )
    return fields


def _print(result: "SearchResult", fields: Sequence[str] | None) -> None:
    from bebr.cli.output import out

    if result.hits:
        out().print(hits_table(result.hits, fields, out().width))
    searched = ", ".join(f"{count:,} points of {version}" for version, count in result.searched.items())
    hits = f"{len(result.hits)} hit{'' if len(result.hits) == 1 else 's'}"
    out().print(f"[dim]{hits} in {result.took_ms:.1f} ms, searched {searched or 'an empty collection'}[/]")


def hits_table(hits: Sequence["Hit"], fields: Sequence[str] | None, width: int) -> "Table":
    """Score, id and metadata: `fields`, or the most descriptive ones. The last column gets the rest of the width."""
    from rich.text import Text

    from bebr.cli.output import COLUMN_GAP, table

    fields = fields or descriptive_fields(hits)
    heads = ["score", "id", *fields]
    rows = [
        [f"{hit.score:.3f}", hit.id, *(_one_line((hit.metadata or {}).get(name)) for name in fields)] for hit in hits
    ]
    made = table(*heads, right=("score",))
    room = width
    for number, cells in enumerate(zip(heads, *rows, strict=True), 1):
        column, wanted = made.columns[number - 1], max(map(len, cells))
        kept = (len(heads) - number) * (MIN_CHARS + COLUMN_GAP)  # for the columns that follow
        column.no_wrap, column.overflow = True, "ellipsis"
        column.max_width = max(MIN_CHARS, min(wanted, room - kept))
        room -= min(wanted, column.max_width) + COLUMN_GAP
    made.columns[1].style = "cyan"
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def descriptive_fields(hits: Sequence["Hit"]) -> list[str]:
    """A few short fields and one that describes the hit; none that repeats the id."""
    all_metadata = [hit.metadata or {} for hit in hits]
    names = list(dict.fromkeys(name for metadata in all_metadata for name in metadata))
    repeats = {name for name in names if all(m.get(name) == hit.id for m, hit in zip(all_metadata, hits, strict=True))}
    names = [name for name in names if name not in repeats]
    described = next((name for name in DESCRIBING_FIELDS if name in names), None)
    narrow = [
        name
        for name in names
        if name != described and max(len(_one_line(metadata.get(name))) for metadata in all_metadata) <= NARROW_CHARS
    ]
    return narrow[:NARROW_COLUMNS] + ([described] if described else [])


def _one_line(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def _json_of(result: "SearchResult") -> dict[str, Any]:
    hits = [{"id": hit.id, "score": hit.score, "version": hit.version, "metadata": hit.metadata} for hit in result.hits]
    return {"hits": hits, "query_version": result.query_version, "searched": result.searched, "took_ms": result.took_ms}
