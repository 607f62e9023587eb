"""The OpenAPI document: what FastAPI derives from the routes, completed by what only we know.

Routes read their bodies themselves, so each says in an `Operation` what it takes, returns and raises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bebr import __version__
from bebr.engine.inputs import MAX_IDEMPOTENCY_KEY_CHARS
from bebr.errors import (
    BebrError,
    CollectionNotFound,
    Damaged,
    Forbidden,
    InsufficientStorage,
    InvalidOption,
    Malformed,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    StoreUnavailable,
    Unauthorized,
)
from bebr.server import bodies, requests, responses
from bebr.server.access import ACCESS, Access
from bebr.server.frames import FrameHeader
from bebr.server.problems import PROBLEM_TYPE, UnsupportedMedia, status_of
from bebr.server.responses.base import Problem

Errors = tuple[type[BebrError], ...]
ALWAYS: Errors = (Unauthorized, Forbidden, InvalidOption, Overloaded)
WITH_BODY: Errors = (Malformed, PayloadTooLarge, UnsupportedMedia)
STORE: Errors = (NotReady, StoreUnavailable, Damaged)
COLLECTION: Errors = (CollectionNotFound, *STORE)
WRITES: Errors = (*COLLECTION, Overloaded, InsufficientStorage)

DESCRIPTION = """Search by meaning through codes of a few dozen bytes.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents. Unknown fields, unknown query
parameters and options that do not apply are errors, never ignored. Every response carries `x-request-id`; a request may
set its own. Bodies may be sent with `content-encoding: gzip`, and large answers are compressed for callers that accept
it.
"""
_FRAMEWORKS_SCHEMAS = ("HTTPValidationError", "ValidationError")
_REF = "#/components/schemas/{model}"
_RETRY_AFTER = {"retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes a retry safe: the same key with the same body gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_CHARS},
}


@dataclass(frozen=True)
class Operation:
    """What one route takes, returns and raises."""

    summary: str
    tag: str
    answer: type[BaseModel] | None
    """Model of the answer, or of each line of it; None: text."""
    answer_type: str = bodies.JSON
    """Content type of the answer."""
    access: Access = Access.WRITE
    """A read-only key may call what reads. A new route is closed to it until it says so."""
    errors: Errors = ()
    body: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    """Model by content type of the body; None: bytes."""
    body_required: bool = True
    status: int = 200
    description: str = ""
    idempotent: bool = False
    """Whether it takes the header Idempotency-Key."""

    def route_options(self) -> dict[str, Any]:
        """Keyword arguments for a FastAPI route decorator."""
        return {
            "summary": self.summary,
            "description": self.description,
            "tags": [self.tag],
            "status_code": self.status,
            "responses": self._responses(),
            "openapi_extra": self.extra(),
        }

    def document(self, operation_id: str, parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The operation object of a route that FastAPI does not know, such as the hot ones."""
        return {
            "summary": self.summary,
            "description": self.description,
            "tags": [self.tag],
            "operationId": operation_id,
            "parameters": [*parameters],
            "responses": {str(status): response for status, response in self._responses().items()},
            **self.extra(),
        }

    def extra(self) -> dict[str, Any]:
        """What FastAPI does not derive from a route."""
        extra: dict[str, Any] = {ACCESS: str(self.access)}
        if self.body:
            content = {kind: {"schema": _schema(model)} for kind, model in self.body.items()}
            extra["requestBody"] = {"required": self.body_required, "content": content}
        if self.idempotent:
            extra["parameters"] = [_IDEMPOTENCY_KEY]
        return extra

    def _responses(self) -> dict[int | str, dict[str, Any]]:
        responses: dict[int | str, dict[str, Any]] = {self.status: self._success()}
        by_status: dict[int, list[str]] = {}
        for error in (*ALWAYS, *(WITH_BODY if self.body else ()), *self.errors):
            by_status.setdefault(status_of(error), []).append(error.__name__)
        by_status.setdefault(500, []).append("InternalError")
        for status, names in sorted(by_status.items()):
            responses[status] = _problem_response(", ".join(dict.fromkeys(names)))
            if status in (429, 503, 507):
                responses[status]["headers"] = _RETRY_AFTER
        return responses

    def _success(self) -> dict[str, Any]:
        schema = {"type": "string"} if self.answer is None else _schema(self.answer)
        return {"description": "Done.", "content": {self.answer_type: {"schema": schema}}}


def build_document(app: FastAPI, raw_operations: Mapping[str, Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """The whole document. `raw_operations`: path -> method -> operation object of routes that FastAPI does not know."""
    document = get_openapi(title="bebr", version=__version__, description=DESCRIPTION, routes=app.routes)
    document["paths"] = dict(sorted({**document["paths"], **raw_operations}.items()))
    for path_item in document["paths"].values():
        for operation in path_item.values():
            _drop_frameworks_error(operation)
    components = document.setdefault("components", {})
    derived = {k: v for k, v in components.get("schemas", {}).items() if k not in _FRAMEWORKS_SCHEMAS}
    components["schemas"] = dict(sorted((derived | _all_schemas()).items()))
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    document["security"] = [{}, {"bearer": []}, {"api-key": []}]
    return document


def _all_schemas() -> dict[str, Any]:
    models = [FrameHeader, *_models_of(requests), *_models_of(responses)]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)  # type: ignore[misc]
    found: dict[str, Any] = definitions["$defs"]
    return found


def _models_of(package: ModuleType) -> list[type[BaseModel]]:
    """The models with fields of all modules of `requests` or `responses`."""
    found: list[type[BaseModel]] = []
    for module in (vars(package)[name] for name in package.__all__):
        own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        found += [v for v in own if issubclass(v, BaseModel) and v.model_fields and not v.__name__.startswith("_")]
    return found


def _schema(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {"type": "string", "format": "binary"}
    return {"$ref": _REF.format(model=model.__name__)}


def _problem_response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": _schema(Problem)}}}


def _drop_frameworks_error(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to routes with parameters; ours is a problem document, and only for bodies."""
    response = operation["responses"].get("422")
    if response is not None and PROBLEM_TYPE not in response.get("content", {}):
        del operation["responses"]["422"]
