"""The page at /docs: the OpenAPI document as plain HTML, and the meaning of every error.

FastAPI's own page loads scripts from a CDN; this one works offline and runs no script.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from bebr import errors
from bebr.errors import BebrError
from bebr.server import problems
from bebr.server.middleware.envelope import InternalError

_METHODS = ("get", "put", "post", "delete")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222;
       background: #fff }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: #f4f4f2; border-radius: 4px }
code { padding: 0 .25em } pre { padding: .6rem .8rem; overflow-x: auto }
details { border: 1px solid #ddd; border-radius: 6px; margin: .4rem 0; padding: .3rem .8rem }
summary { cursor: pointer } summary b { display: inline-block; width: 4.5em }
table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } code, pre { background: #262626 }
       details { border-color: #444 } a { color: #8ab4f8 } }
"""


def render_page(document: Mapping[str, Any]) -> str:
    """The OpenAPI document -> a page of HTML."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>bebr API</title>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<style>{_STYLE}</style><h1>bebr {escape(document['info']['version'])}</h1>",
        f"<p>{escape(document['info']['description'])}</p>",
        "<p>For machines: <a href=openapi.json>openapi.json</a></p>",
        *_operations(document),
        "<h2>Errors</h2><table>",
        *(_error_row(error) for error in all_errors()),
        "</table></html>",
    ]
    return "".join(parts)


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                by_tag.setdefault(item[method]["tags"][0], []).append((method, path, item[method]))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        for method, path, operation in operations:
            yield _operation(method, path, operation, document["components"]["schemas"])


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code><td>{p['in']}<td>{escape(p.get('description', ''))}"
        for p in operation.get("parameters", [])
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    rows += [_body_rows(kind, content["schema"], schemas) for kind, content in bodies.items()]
    responses = "".join(
        f"<tr><td>{status}<td>{escape(response['description'])}" for status, response in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p><table>{''.join(rows)}</table>"
        f"<p>Answers</p><table>{responses}</table></details>"
    )


def _body_rows(kind: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A table row for each field of a body, then its examples."""
    if "$ref" not in schema:
        return f"<tr><td colspan=3>Body: <code>{escape(kind)}</code>"
    model = schemas[schema["$ref"].rpartition("/")[2]]
    rows = [f"<tr><td colspan=3>Body: <code>{escape(kind)}</code>. {escape(model.get('description', ''))}"]
    for name, field in model["properties"].items():
        need = "required" if name in model.get("required", ()) else ""
        rows.append(f"<tr><td><code>{escape(name)}</code><td>{need}<td>{escape(field.get('description', ''))}")
    for example in model.get("examples", ()):
        rows.append(f"<tr><td colspan=3><pre>{escape(json.dumps(example, indent=2))}</pre>")
    return "".join(rows)


def _error_row(error: type[BebrError]) -> str:
    text = " ".join((inspect.getdoc(error) or "").split())
    return f"<tr id={error.__name__}><td><code>{error.__name__}</code><td>{problems.status_of(error)}<td>{escape(text)}"


def all_errors() -> list[type[BebrError]]:
    """Every error class, in the order in which the modules define them."""
    found = [*vars(errors).values(), *vars(problems).values(), InternalError]
    classes = [value for value in found if isinstance(value, type) and issubclass(value, BebrError)]
    return list(dict.fromkeys(classes))
