"""`bebr config`: every setting, its value, its source and its meaning."""

from pathlib import Path
from typing import Annotated

import typer

from bebr.cli.options import AsJson, ConfigFile


def config(
    config: ConfigFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every setting with its value, its source and its meaning."""
    from bebr.config.report import settings_markdown

    if markdown:
        print(settings_markdown(), end="")
    else:
        _show(config, as_json)


def _show(file: Path | None, as_json: bool) -> None:
    from bebr.cli.output import out, print_json, table
    from bebr.config import load
    from bebr.config.report import shown_value
    from bebr.config.settings import setting_fields

    loaded = load(file=file)
    values = {field.name: shown_value(field, getattr(loaded.settings, field.name)) for field in setting_fields()}
    if as_json:
        print_json({name: {"value": value, "source": loaded.sources[name]} for name, value in values.items()})
        return
    rows = table("setting", "value", "source", "meaning")
    for field in setting_fields():
        source = loaded.sources[field.name]
        style = "dim" if source == "default" else None
        rows.add_row(f"BEBR_{field.name.upper()}", values[field.name], source, field.metadata["help"], style=style)
    out().print(rows)
