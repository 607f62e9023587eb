"""The page at /docs: the OpenAPI document as HTML, and the meaning of every error.

FastAPI's own page loads scripts from a CDN; this one works offline, and can be read without its script, which finds
operations and tries them out.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from markdown_it import MarkdownIt

from bebr import errors
from bebr.errors import BebrError
from bebr.server import problems
from bebr.server.middleware.envelope import InternalError

Schema = Mapping[str, Any]
_METHODS = ("get", "put", "post", "patch", "delete")
_FIRST = ("search", "points", "collections", "jobs")
"""Tags in the order in which people need them; the others follow."""
_LIMITS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "length from",
    "maxLength": "length to",
    "default": "default",
}
_HEAD = """<!doctype html><html lang=en><meta charset=utf-8><title>bebr API</title>
<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">
<link rel=icon href="data:,"><link rel=stylesheet href="assets/pages.css">
<script type=module src="assets/docs.js"></script>
<header><h1>bebr</h1><nav><a href="./">Search</a> <a href="openapi.json">openapi.json</a></nav>
<details id=key-box><summary>API key</summary><form id=key-form>
<input id=key type=password autocomplete=off aria-label="API key" placeholder=key> <button>Use</button>
<small>kept in this tab only</small></form></details></header><main>
<input id=find type=search autocomplete=off placeholder="Find an operation, a field or an error" aria-label="Find">
"""
_markdown = MarkdownIt("commonmark", {"html": False})


def render_page(document: Mapping[str, Any]) -> str:
    """The OpenAPI document -> a page of HTML."""
    schemas = document["components"]["schemas"]
    parts = [
        _HEAD,
        f"<p>Version {escape(document['info']['version'])}</p>{_text(document['info']['description'])}",
        *_operations(document),
        "<section><h2>Shapes</h2>",
        *(_shape(name, schema) for name, schema in sorted(schemas.items())),
        "</section><section><h2>Errors</h2><table>",
        *(_error_row(error) for error in all_errors()),
        "</table></section></main></html>",
    ]
    return "".join(parts)


def _text(markdown: str) -> str:
    """Markdown -> HTML. HTML in it is shown as it is written."""
    return str(_markdown.render(markdown))


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {tag: [] for tag in _FIRST}
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                by_tag.setdefault(item[method]["tags"][0], []).append(_operation(method, path, item[method], document))
    for tag, operations in by_tag.items():
        yield f"<section><h2>{escape(tag.capitalize())}</h2>{''.join(operations)}</section>"


def _operation(method: str, path: str, operation: Schema, document: Schema) -> str:
    given = [
        _row(each["name"], each["schema"], each.get("description", ""), f"in the {each['in']}", each.get("required"))
        for each in operation.get("parameters", [])
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    given += [f"<tr><td>Body<td class=type>{_type(body['schema'])}<td>{escape(kind)}" for kind, body in bodies.items()]
    answers = "".join(_answer(status, answer) for status, answer in operation["responses"].items())
    return (
        f'<details class=operation id="{escape(operation["operationId"])}"><summary><b>{method.upper()}</b> '
        f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>{_text(operation.get('description', ''))}"
        f"<table>{''.join(given)}</table>{_trial(method, path, operation, document)}"
        f"<h3>Answers</h3><table>{answers}</table></details>"
    )


def _answer(status: str, answer: Schema) -> str:
    shapes = " or ".join(
        _type(content["schema"]) if content.get("schema") else escape(kind)
        for kind, content in answer.get("content", {}).items()
    )
    return f"<tr><td>{escape(status)}<td class=type>{shapes}<td>{_text(answer['description'])}"


def _trial(method: str, path: str, operation: Schema, document: Schema) -> str:
    """A form that sends the request, filled with the example of its body."""
    bodies = operation.get("requestBody", {}).get("content", {})
    if bodies and "application/json" not in bodies:
        return ""  # frames and files are not typed by hand
    names = [(escape(each["name"]), each["in"]) for each in operation.get("parameters", [])]
    fields = "".join(
        f'<label>{name}<input name="{name}" data-in={place} autocomplete=off></label>' for name, place in names
    )
    if bodies:
        schema = _resolved(bodies["application/json"]["schema"], document)
        example = json.dumps(next(iter(schema.get("examples", ())), {}), indent=2)
        fields += f'<textarea class=code name=body aria-label="Body" spellcheck=false>{escape(example)}</textarea>'
    return (
        f'<details><summary>Try it</summary><form class=try data-method={method} data-path="{escape(path)}">{fields}'
        "<button>Send</button><output></output></form></details>"
    )


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _shape(name: str, schema: Schema) -> str:
    """A schema that others name, with a row for each of its fields."""
    needed = schema.get("required", ())
    rows = [
        _row(field, inner, inner.get("description", ""), "", field in needed)
        for field, inner in schema.get("properties", {}).items()
    ]
    kind = "" if rows else f"<p>{_type(schema)}"
    examples = "".join(f"<pre>{escape(json.dumps(each, indent=2))}</pre>" for each in schema.get("examples", ()))
    return (
        f'<details class=shape id="shape-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"{_text(schema.get('description', ''))}{kind}<table>{''.join(rows)}</table>{examples}</details>"
    )


def _row(name: str, schema: Schema, description: str, place: str, required: object) -> str:
    notes = ", ".join(part for part in (place, "required" if required else "") if part)
    return (
        f"<tr><td><code>{escape(name)}</code><td class=type>{_type(schema)}"
        f"{'<br>' if notes else ''}{notes}<td>{_text(description)}"
    )


def _type(schema: Schema) -> str:
    """A schema in few words, with links to the shapes that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}">{name}</a>'
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(each) for each in choices))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    limits = [f"{word} {escape(json.dumps(schema[key]))}" for key, word in _LIMITS.items() if key in schema]
    return ", ".join([escape(str(kind)), *limits])


def _error_row(error: type[BebrError]) -> str:
    text = " ".join((inspect.getdoc(error) or "").split())
    return f"<tr id={error.__name__}><td><code>{error.__name__}</code><td>{problems.status_of(error)}<td>{_text(text)}"


def all_errors() -> list[type[BebrError]]:
    """Every error class, in the order in which the modules define them."""
    found = [*vars(errors).values(), *vars(problems).values(), InternalError]
    classes = [value for value in found if isinstance(value, type) and issubclass(value, BebrError)]
    return list(dict.fromkeys(classes))
