"""JSON bodies that are too large to be parsed in one piece: that would stop every other request meanwhile.

Such a body is one array of many items and little else. It is cut into items, which are parsed one by one in a thread.
"""

import asyncio
import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from bebr.core.decoding import BOM, malformed
from bebr.errors import InvalidOption, Malformed, PayloadTooLarge
from bebr.server.bodies.body import Model, parse
from bebr.server.validation import invalid_body

WHOLE_BYTES = 256 * 1024
"""Bodies up to this size are parsed in one piece."""
MAX_REST_BYTES = 1 << 20
"""What a large body may hold beside its items, and one item of it."""
MAX_ITEM_BYTES = 4 << 20
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]"]|null', re.DOTALL)
"""Strings, brackets and null, nothing of which is ever read twice. A quote alone begins a string that has no end."""


async def parse_items(
    model: type[Model], body: bytes, name: str, max_items: int, item: type[BaseModel] | None = None
) -> Model:
    """As `parse`, for a model whose field `name` is an array of many. item: model of each; None: any JSON value.

    Raises Malformed, InvalidOption for more than `max_items` or what a model says, PayloadTooLarge for a large rest.
    """
    if len(body) <= WHOLE_BYTES:
        return parse(model, body)
    return await asyncio.to_thread(parse_large, model, body, name, max_items, item)


def parse_large(
    model: type[Model],
    body: bytes,
    name: str,
    max_items: int,
    item: type[BaseModel] | None = None,
    max_rest_bytes: int = MAX_REST_BYTES,
) -> Model:
    """The same, where it is called: in a thread, if the body is large."""
    if len(body) <= WHOLE_BYTES:
        return parse(model, body)
    body = body.removeprefix(BOM)
    spans = item_spans(body, name, max_items)
    if spans is None:
        if len(body) > max_rest_bytes:
            raise Malformed(
                f'a body of {len(body)} bytes must be a JSON object with "{name}": an array of objects or texts'
            )
        return parse(model, body)
    (first, first_end), last_end = spans[0], spans[-1][1]
    if first + len(body) - last_end > max_rest_bytes:
        raise PayloadTooLarge(f"only '{name}' may take more than {max_rest_bytes} bytes of a body", key=name)
    parsed = parse(model, body[:first] + body[first:first_end] + body[last_end:])
    if len(getattr(parsed, name)) != 1:
        raise InvalidOption(f"'{name}' is in the body twice; send it once", key=name)
    setattr(
        parsed, name, [_item(body[start:end], number, name, model, item) for number, (start, end) in enumerate(spans)]
    )
    return parsed


def _item(text: bytes, number: int, name: str, model: type[BaseModel], item: type[BaseModel] | None) -> Any:
    if len(text) > MAX_ITEM_BYTES:
        raise PayloadTooLarge(f"{name}[{number}] has {len(text)} bytes, the limit is {MAX_ITEM_BYTES}", key=name)
    try:
        return from_json(text) if item is None else item.model_validate_json(text)
    except ValidationError as error:
        raise invalid_body(error, item or model, text, (name, number)) from None
    except ValueError as error:
        raise malformed(str(error), f"item {name}[{number}]") from error


def item_spans(body: bytes, name: str, max_items: int) -> list[tuple[int, int]] | None:
    """Where each item of the array `name` of the outermost object starts and ends; None: it is not of that shape.

    Raises InvalidOption for more than `max_items`.
    """
    if not body.lstrip().startswith(b"{"):
        return None
    key, wanted = b"", b'"%s"' % name.encode()
    depth, inside, end_before = 0, False, 0
    spans: list[tuple[int, int]] = []
    start = 0
    for token in _TOKEN.finditer(body):
        text, ended = token[0] if token.end() - token.start() <= len(wanted) else b'""', False
        if text in (b"{", b"["):
            depth += 1
            if not inside and depth == 2 and text == b"[" and key == wanted:
                inside, end_before = True, token.end()
            elif inside and depth == 3:
                start = token.start()
        elif text in (b"}", b"]"):
            depth -= 1
            if inside and depth == 1:
                return spans if spans and not body[end_before : token.start()].strip() else None
            ended = inside and depth == 2
        elif text == b'"' and token.end() - token.start() == 1:
            return None
        elif depth == 1:
            key = text
        elif inside and depth == 2:
            start, ended = token.start(), True
        if ended:
            if body[end_before:start].strip() != (b"," if spans else b""):
                return None
            spans.append((start, token.end()))
            end_before = token.end()
            if len(spans) > max_items:
                raise InvalidOption(f"{name}: at most {max_items} in one request, got more; send several", key=name)
    return None
