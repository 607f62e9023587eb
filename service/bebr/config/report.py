"""Settings for people: the values of `bebr config` and the page docs/settings.md. Keys and passwords never appear."""

from dataclasses import Field
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from bebr.config.load import OTHER_VARIABLES, PREFIX
from bebr.config.settings import setting_fields
from bebr.config.values import NONE, human_size

_HEAD = """\
# Settings

<!-- Written by `bebr config --markdown`; a test holds it. -->

The value of a setting comes from the first of these that has it:

1. a flag of `bebr serve`: `--port 9000`, or `--set max_queue=64` for settings without a flag of their own;
2. its environment variable, or the file that the variable with `_FILE` behind it names:
   `BEBR_API_KEYS_FILE=/run/secrets/bebr_api_keys`;
3. the TOML file named by `--config` or `BEBR_CONFIG`: `port = 9000`;
4. the default.

An unknown `BEBR_*` variable or key in the file is an error at start. `bebr config` shows every value and where it comes
from. Sizes may have units (`64MiB`, `2GB`), and so may durations (`500ms`, `5s`, `2h`).
"""


def shown_value(setting: Field[Any], value: Any) -> str:
    """The value as a person would write it; of secrets, only that they are set."""
    if setting.name == "redis_url":
        return _without_secrets(value) if value else NONE
    if setting.metadata["secret"]:
        return f"{len(value)} set" if value else NONE
    if setting.name.endswith("_bytes"):
        return human_size(value)
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def settings_markdown() -> str:
    """The text of docs/settings.md."""
    lines = [_HEAD]
    group = ""
    for setting in setting_fields():
        if setting.metadata["group"] != group:
            group = setting.metadata["group"]
            lines += ([""] if len(lines) > 1 else []) + [f"## {group}", ""]
            lines += ["| Variable | Default | Meaning |", "|---|---|---|"]
        default = shown_value(setting, setting.default)
        lines.append(f"| `{PREFIX}{setting.name.upper()}` | `{default}` | {setting.metadata['help']} |")
    lines += ["", "## Other variables", "", "| Variable | Meaning |", "|---|---|"]
    lines += [f"| `{name}` | {help} |" for name, help in OTHER_VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _without_secrets(url: str) -> str:
    """Scheme, host, path and names of options; of the user, only the name beside a password."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if user:
        host = f"{parts.username}:***@{host}" if parts.password and parts.username else f"***@{host}"
    options = "&".join(
        f"{name}={value if name == 'db' else '***'}" for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return urlunsplit(parts._replace(netloc=host, query=options, fragment=""))
