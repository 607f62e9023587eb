"""Pydantic's findings as our errors: which field is at fault, what was expected, where a body does not parse."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ValidationError

from bebr.core.decoding import malformed
from bebr.core.types import check_id
from bebr.errors import BebrError, InvalidId, InvalidOption, InvalidRequest

MAX_NAMED_ERRORS = 20
_UNION_MEMBER = re.compile(r"^(bool|str|int|float|.+\[.*\])$")
"""Pydantic puts the member of a union into the location of an error; it is not a field of the body."""


def invalid_body(error: ValidationError, model: type[BaseModel]) -> BebrError:
    """Malformed with line and column for a body that is not JSON, else InvalidOption naming the fields at fault."""
    return _invalid_body(error.errors(include_url=False, include_input=False), model)


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


def _invalid_body(findings: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> InvalidRequest:
    if findings[0]["type"] == "json_invalid":
        return malformed(findings[0]["ctx"]["error"])
    return _name_fields(findings, {"": list(_names(model))})


def _name_fields(findings: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[str]]) -> InvalidOption:
    """`known`: by path of an object, the fields that it may have, to suggest one for a misspelled name."""
    named: dict[str, str] = {}
    for finding in findings:
        parent, path = _path(finding["loc"][:-1]), _path(finding["loc"]) or "body"
        if finding["type"] == "extra_forbidden":
            text = _unknown(str(finding["loc"][-1]), known.get(parent, ()), "field")
        else:
            text = f"{path}: {_lower_first(finding['msg'])}"
        if path in named and _UNION_MEMBER.match(str(finding["loc"][-1])):
            named[path] += f", or {_lower_first(finding['msg'])}"  # each member of a union says what it expected
        named.setdefault(path, text)
    field, detail = next(iter(named.items()))
    more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
    return InvalidOption(detail + more, key=field, errors=dict(list(named.items())[:MAX_NAMED_ERRORS]))


def _unknown(name: str, known: Sequence[str], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listing = f"; known: {', '.join(known)}" if known and not close else ""
    return f"unknown {what} {name!r:.100}{hint}{listing}"


def _path(location: Sequence[str | int]) -> str:
    """('searches', 3, 'limit') -> 'searches[3].limit'."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (path and _UNION_MEMBER.match(part)):
            path += f".{part}" if path else part
    return path


def _names(model: type[BaseModel]) -> Iterable[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
