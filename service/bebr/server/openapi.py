"""The OpenAPI document: what FastAPI derives from the routes, completed by what only we know.

Routes read their bodies themselves (see `bodies` and `search`), so each says here what it takes, gives and refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bebr import __version__
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
from bebr.server.frames import FrameHeader
from bebr.server.problems import PROBLEM_TYPE, UnsupportedMedia, status_of

Errors = tuple[type[BebrError], ...]
ALWAYS: Errors = (Unauthorized, Forbidden, InvalidOption)
WITH_BODY: Errors = (Malformed, PayloadTooLarge, UnsupportedMedia)
STORE: Errors = (NotReady, StoreUnavailable, Damaged)
COLLECTION: Errors = (CollectionNotFound, *STORE)
WRITES: Errors = (*COLLECTION, Overloaded, InsufficientStorage)

DESCRIPTION = """Search by meaning through codes of a few dozen bytes.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents. Unknown fields, query parameters and
options that do not apply are errors, never ignored. Every response carries `x-request-id`; a request may bring its own.
Bodies may come as `content-encoding: gzip`, and large answers leave so for callers that accept it.
"""
_FRAMEWORKS_SCHEMAS = ("HTTPValidationError", "ValidationError")
_REF = "#/components/schemas/{model}"
_RETRY_AFTER = {"retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes a retry safe: the same key with the same body answers as the first time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}


@dataclass(frozen=True)
class Operation:
    """What one route takes, gives and refuses.

    body: content type -> schema model (None: bytes). answer: model, or (content type, description) of other bytes.
    """

    summary: str
    tag: str
    answer: type[BaseModel] | str
    errors: Errors = ()
    body: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    status: int = 200
    description: str = ""
    idempotent: bool = False
    body_required: bool = True

    def route_options(self) -> dict[str, Any]:
        """Keyword arguments for a FastAPI route decorator."""
        return {
            "summary": self.summary,
            "description": self.description,
            "tags": [self.tag],
            "status_code": self.status,
            "responses": self._responses(),
            "openapi_extra": self._extra(),
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
            **self._extra(),
        }

    def _extra(self) -> dict[str, Any]:
        extra: dict[str, Any] = {}
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
        if isinstance(self.answer, str):
            return {"description": "Done.", "content": {self.answer: {"schema": {"type": "string"}}}}
        schema = _schema(self.answer)
        return {"description": "Done.", "content": {bodies.JSON: {"schema": schema}}}


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


def _models_of(module: Any) -> list[type[BaseModel]]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return [model for model in found if model.__module__ == module.__name__ and model.model_fields]


def _schema(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {"type": "string", "format": "binary"}
    return {"$ref": _REF.format(model=model.__name__)}


def _problem_response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": _schema(responses.Problem)}}}


def _drop_frameworks_error(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to routes with parameters; ours is a problem document, and only for bodies."""
    response = operation["responses"].get("422")
    if response is not None and PROBLEM_TYPE not in response.get("content", {}):
        del operation["responses"]["422"]
