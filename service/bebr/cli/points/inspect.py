"""`bebr inspect`: the contents of a collection, or of a folder on disk."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bebr.cli.options import ApiKey, AsJson, Url, refuse

if TYPE_CHECKING:
    from bebr.client import Client


def inspect(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="A collection or alias; or a path with a /: the folder of a bundle, or a data folder."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show a collection, a bundle or a data folder. Without a target, list all collections of the service."""
    from bebr.cli.options import client

    if target is not None and ("/" in target or target == "."):  # no collection name contains a /
        for option in ("url", "api_key"):
            refuse(context, option, f"is of a service, and '{target}' is a folder")
        found = _folder(Path(target))
    else:
        with client(url, api_key) as service:
            found = service.describe_collection(target) if target else _collections(service)
    show_found(found, as_json)


def show_found(found: dict[str, Any], as_json: bool) -> None:
    """Print a description."""
    from bebr.cli.output import print_json

    if as_json:
        print_json(found)
    else:
        _print(found)


def show_collections(service: "Client", as_json: bool) -> None:
    """Print all collections of a service with their aliases."""
    show_found(_collections(service), as_json)


def _collections(service: "Client") -> dict[str, Any]:
    found: dict[str, Any] = {"collections": service.list_collections(), "aliases": service.list_aliases()}
    members = service.list_members()
    return found | ({"members": members} if members else {})


def _folder(path: Path) -> dict[str, Any]:
    """Describe a folder with a manifest as a bundle, any other as a data folder. Raises InvalidOption."""
    from bebr.errors import InvalidOption

    if not path.is_dir():
        raise InvalidOption(f"there is no folder '{path}'")
    if (path / "manifest.json").is_file():
        from bebr.encoding import Bundle

        bundle = Bundle.load(path)
        files = {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}
        return {**asdict(bundle.summary()), "metrics": dict(bundle.figures), "verified": True, "files": files}
    entries = {entry.name: _size(entry) for entry in sorted(path.iterdir()) if not entry.name.startswith(".")}
    if not entries:
        raise InvalidOption(f"the folder '{path}' is empty; expected a bundle or a data folder")
    return {"folder": str(path.absolute()), "bytes": entries, "total_bytes": sum(entries.values())}


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _print(found: dict[str, Any]) -> None:
    from bebr.cli.output import out, table

    if isinstance(found.get("collections"), list):
        _print_collections(found)
        return
    rows = table("", "")
    rows.show_header = False
    for name, value in found.items():
        if isinstance(value, dict):
            rows.add_row(name, "" if value else "none")
            for key, item in value.items():
                rows.add_row(f"  {key}", _shown(name if name in ("bytes", "files") else key, item))
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            rows.add_row(name, "")
            for number, item in enumerate(value):
                rows.add_row(f"  {number}", _shown(name, item))
        else:
            rows.add_row(name, _shown(name, value))
    out().print(rows)


def _print_collections(found: dict[str, Any]) -> None:
    from bebr.cli.output import out, table

    names = {name: [alias for alias, target in found["aliases"].items() if target == name] for name in _names(found)}
    rows = table("collection", "points", "code", "bundle", "aliases", right=("points",))
    for collection in found["collections"]:
        name = collection["name"]
        rows.add_row(
            name,
            f"{collection.get('points', 0):,}",
            str(collection.get("code", "")),
            str(collection.get("bundle") or collection.get("active_version") or ""),
            ", ".join(names[name]),
        )
    out().print(rows if found["collections"] else "no collections yet")
    if found.get("members"):
        rows = table("service", "version", "since", "")
        for member in found["members"]:
            rows.add_row(member["name"], member["version"], member["since"], "this one" if member["is_this"] else "")
        out().print(rows)


def _names(found: dict[str, Any]) -> list[str]:
    return [collection["name"] for collection in found["collections"]]


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}" + (" B" if "bytes" in name or name == "files" else "")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_shown(name, item) for item in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(key, item)}" for key, item in value.items())
    return str(value)
