"""Pydantic's findings as our errors: which field is at fault, what was expected, where a body does not parse."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from bebr.core.decoding import malformed
from bebr.core.types import check_id
from bebr.errors import BebrError, InvalidId, InvalidOption

MAX_FINDINGS = 20
MAX_NAME_CHARS = 100
_UNION_MEMBER = re.compile(r"bool|str|int|float|Rescore|OwnFit|.+\[.*\]")
"""Pydantic puts the member of a union into the location of an error; it is not a field of the body."""


def invalid_body(
    error: ValidationError, model: type[BaseModel], body: bytes, place: tuple[str | int, ...] = ()
) -> BebrError:
    """Malformed with line and column for a body that is not JSON, else InvalidOption naming the fields at fault.

    place: where `body` stands in what the caller sent.
    """
    count = error.error_count()
    findings: Sequence[ErrorDetails]
    if count <= MAX_FINDINGS:
        findings = error.errors(include_url=False, include_input=False)
    else:
        findings = _some_findings(model, body)
    if not findings:
        return InvalidOption(f"{_path(place) or 'the body'} is wrong in {count:,} places", key=_path(place) or "body")
    if findings[0]["type"] == "json_invalid":
        return malformed(findings[0]["ctx"]["error"])
    known = {_path(place): list(_names(model))}
    return _name_fields([{**finding, "loc": (*place, *finding["loc"])} for finding in findings], known)


def _some_findings(model: type[BaseModel], body: bytes) -> Sequence[ErrorDetails]:
    """A finding costs much, so a body with thousands is cut down to the start of everything and validated again."""
    try:
        model.model_validate_json(to_json(_cut(from_json(body), MAX_FINDINGS)))
    except ValidationError as error:
        findings = error.errors(include_url=False, include_input=False)
        return [finding for finding in findings if finding["type"] != "missing"][:MAX_FINDINGS]
    return []


def _cut(value: Any, most: int) -> Any:
    """The first entries of every list and object, fewer the deeper they lie."""
    less = max(1, most // 2)
    if isinstance(value, dict):
        return {name: _cut(held, less) for name, held in islice(value.items(), most)}
    if isinstance(value, list):
        return [_cut(held, less) for held in value[:most]]
    return value


def invalid_parameters(findings: Iterable[Mapping[str, Any]]) -> InvalidOption:
    """Findings about path, query and header parameters -> one error that names them."""
    return _name_fields([{**finding, "loc": tuple(finding["loc"])[1:]} for finding in findings], {})


def check_ids(values: Sequence[object], key: str) -> list[str]:
    """The point ids. Raises InvalidId. `key`: the field with the one id ("id"), or with the list of them."""
    ids: list[str] = []
    try:
        for value in values:
            ids.append(check_id(value))
    except InvalidId as error:
        error.fields["key"] = key if key == "id" else f"{key}[{len(ids)}]"
        raise
    return ids


@contextmanager
def at_fault(key: str, kind: type[BebrError]) -> Iterator[None]:
    """Errors of this kind that are raised inside get `key`, the field at fault, if they have none."""
    try:
        yield
    except kind as error:
        error.fields.setdefault("key", key)
        raise


def reject_unknown(given: Iterable[str], known: Sequence[str], what: str) -> None:
    """Raise InvalidOption for a name that is not known."""
    for name in given:
        if name not in known:
            raise InvalidOption(_unknown(name, known, what), key=name)


def _name_fields(findings: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[str]]) -> InvalidOption:
    """`known`: by path of an object, the fields that it may have, to suggest one for a misspelled name."""
    named: dict[str, str] = {}
    of_unions: set[str] = set()
    for finding in findings:
        parent, path = _path(finding["loc"][:-1]), _path(finding["loc"]) or "body"
        if finding["type"] == "extra_forbidden":
            names = () if named else known.get(parent, ())  # looking for a similar name costs much: once is enough
            text = _unknown(str(finding["loc"][-1]), names, "field")
        else:
            text = f"{path}: {_lower_first(finding['msg'])}"
        is_member = any(_UNION_MEMBER.fullmatch(str(last)) for last in finding["loc"][-1:])
        if is_member:
            of_unions.add(path)
        if path in named and is_member:
            named[path] += f", or {_lower_first(finding['msg'])}"  # each member of a union says what it expected
        named.setdefault(path, text)
    for path in of_unions:  # where the value is of one member, its own findings say what is wrong
        if any(other.startswith((f"{path}.", f"{path}[")) for other in named):
            del named[path]
    field, detail = next(iter(named.items()))
    more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
    return InvalidOption(detail + more, key=field, errors=named)


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    close = difflib.get_close_matches(name[:MAX_NAME_CHARS], known, n=1) if known else []
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listing = f"; known: {', '.join(known)}" if known and not close else ""
    return f"unknown {what} {name!r:.100}{hint}{listing}"


def _path(location: Sequence[str | int]) -> str:
    """('searches', 3, 'limit') -> 'searches[3].limit'."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (path and _UNION_MEMBER.fullmatch(part)):
            path += f".{part:.{MAX_NAME_CHARS}}" if path else f"{part:.{MAX_NAME_CHARS}}"
    return path


def _names(model: type[BaseModel]) -> Iterable[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
