"""`bebr alias`: other names of collections."""

from typing import Annotated

import typer

from bebr.cli.options import ApiKey, AsJson, Url

app = typer.Typer(help="Other names of collections.", no_args_is_help=True)

Alias = Annotated[str, typer.Argument(help="The other name.", show_default=False)]
Collection = Annotated[str, typer.Argument(help="Collection.", show_default=False)]


@app.command("list")
def list_(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the aliases and their collections."""
    from bebr.cli.options import client
    from bebr.cli.output import out, print_json, table

    with client(url, api_key) as service:
        aliases = service.list_aliases()
    if as_json:
        print_json({"aliases": aliases})
        return
    rows = table("alias", "collection")
    for alias, collection in aliases.items():
        rows.add_row(alias, collection)
    out().print(rows if aliases else "no aliases yet")


@app.command("set")
def set_(
    alias: Alias, collection: Collection, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Give a collection another name, or move the name to it in one step."""
    from bebr.cli.options import client
    from bebr.cli.output import print_result

    with client(url, api_key) as service:
        service.update_aliases([{"create": {"alias": alias, "collection": collection}}])
    print_result({"alias": alias, "collection": collection}, as_json, f"'{alias}' is '{collection}' now")


@app.command("delete")
def delete(alias: Alias, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Delete an alias; its collection stays."""
    from bebr.cli.options import client
    from bebr.cli.output import print_result

    with client(url, api_key) as service:
        service.update_aliases([{"delete": {"alias": alias}}])
    print_result({"deleted": alias}, as_json, f"deleted the alias '{alias}'")
