"""The JSON schemas of the OpenAPI document: what pydantic derives from the models, as validators, generators of clients
and people can all use it.

Three things are not as pydantic writes them:

- No `default`: generators take a field that has one for a field that is always there, in requests too. The description
  says it instead.
- What generators would make a union of is hidden from them behind a double negation, see `exactly_one`.
- Where values of an enum differ in signs only, their names are spelled out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.config import JsonDict, JsonValue
from pydantic.json_schema import models_json_schema

from bebr.config import Limits

REF = "#/components/schemas/{model}"
_NOT_NULL: JsonDict = {"not": {"type": "null"}}
_BOUNDS = ("maximum", "maxItems", "maxLength")
_NAME_OF_VALUE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULT = re.compile(r"\bdefault\b", re.IGNORECASE)


def exactly_one(names: Sequence[str]) -> JsonDict:
    """A schema that holds where exactly one of these fields is there and not null.

    It means the same as the `oneOf` inside it. Of a `oneOf` generators make a union of classes, each with one of the
    fields and nothing else; they pass over `not`.
    """
    alternatives: list[JsonValue] = [{"required": [name], "properties": {name: _NOT_NULL}} for name in names]
    return {"not": {"not": {"oneOf": alternatives}}}


def ref(model: type[BaseModel]) -> dict[str, Any]:
    """A reference to the schema of a model."""
    return {"$ref": REF.format(model=model.__name__)}


def schemas_of(models: Iterable[type[BaseModel]], limits: Limits) -> dict[str, Any]:
    """The schemas of the models, and of what they refer to, by name.

    A bound that is the name of a setting, as in {"maximum": "max_limit"}, becomes its value.
    """
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    found: dict[str, Any] = definitions["$defs"]
    return {name: tidied(schema, asdict(limits)) for name, schema in found.items()}


def models_of(package: ModuleType) -> list[type[BaseModel]]:
    """The models with fields of all modules of `requests` or `responses`."""
    found: list[type[BaseModel]] = []
    for module in (vars(package)[name] for name in package.__all__):
        named = [v for name, v in vars(module).items() if name.isidentifier() and not name.startswith("_")]
        own = [v for v in named if isinstance(v, type) and v.__module__ == module.__name__]
        found += [v for v in own if issubclass(v, BaseModel) and v.model_fields]
    return found


def tidied(schema: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """The schema as this module writes it, and all that is inside it."""
    result = {key: _tidied_value(key, value, limits) for key, value in schema.items() if key != "default"}
    if "default" in schema:
        _say_default(result, schema["default"])
    for bound in _BOUNDS:
        if isinstance(result.get(bound), str):
            result[bound] = limits[result[bound]]
    if not all(_NAME_OF_VALUE.fullmatch(str(value)) for value in result.get("enum", ())):
        result["x-enum-varnames"] = [str(value).upper().replace("[]", "_LIST") for value in result["enum"]]
    return result


def _tidied_value(key: str, value: Any, limits: dict[str, Any]) -> Any:
    if key in ("examples", "enum"):
        return value
    if key in ("properties", "$defs"):
        return {name: tidied(schema, limits) for name, schema in value.items()}
    if isinstance(value, dict):
        return tidied(value, limits)
    if isinstance(value, list):
        return [tidied(item, limits) if isinstance(item, dict) else item for item in value]
    return value


def _say_default(schema: dict[str, Any], default: Any) -> None:
    said = schema.get("description", "")
    if default not in (None, [], {}) and not _DEFAULT.search(said):
        schema["description"] = f"{said} Default: {json.dumps(default)}.".strip()
