"""The OpenAPI document: what FastAPI derives from the routes, completed by what only we know.

Routes read their bodies themselves, so each says in an `Operation` what it takes, returns and raises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from bebr import __version__
from bebr.config import Limits
from bebr.core.types import MAX_ID_BYTES
from bebr.engine.collections.registry import NAME
from bebr.engine.inputs import MAX_IDEMPOTENCY_KEY_CHARS
from bebr.errors import (
    BebrError,
    CollectionNotFound,
    Damaged,
    DeadlineExceeded,
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
from bebr.server import requests, responses
from bebr.server.access import ACCESS, Access
from bebr.server.bodies.body import JSON, NDJSON
from bebr.server.bodies.frames import FrameHeader
from bebr.server.problems import (
    PROBLEM_TYPE,
    HeadTooLarge,
    InvalidHttp,
    RequestTimeout,
    TooManyConnections,
    UnsupportedMedia,
    status_of,
)
from bebr.server.responses.base import Problem
from bebr.server.responses.embeddings import OpenAiError
from bebr.server.responses.jobs import JobAccepted
from bebr.server.schemas import models_of, ref, schemas_of, tidied

Errors = tuple[type[BebrError], ...]
ON_THE_SOCKET: Errors = (InvalidHttp, RequestTimeout, HeadTooLarge, TooManyConnections)
ALWAYS: Errors = (Unauthorized, Forbidden, InvalidOption, Overloaded, *ON_THE_SOCKET)
WITH_BODY: Errors = (Malformed, PayloadTooLarge, UnsupportedMedia)
STORE: Errors = (NotReady, StoreUnavailable, Damaged)
COLLECTION: Errors = (CollectionNotFound, *STORE)
WRITES: Errors = (*COLLECTION, Overloaded, DeadlineExceeded, InsufficientStorage)

DESCRIPTION = """Search by meaning through codes of a few dozen bytes.

Errors are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem documents. Unknown fields, unknown query
parameters and options that do not apply are errors, never ignored. Every response carries `x-request-id`; a request may
set its own. Bodies may be sent with `content-encoding: gzip`, and large answers are compressed for callers that accept
it.
"""
LINE_SCHEMA = "x-line-schema"
"""The key of the schema of an NDJSON body that says what each line is."""
_FRAMEWORKS_SCHEMAS = ("HTTPValidationError", "ValidationError")
_PROBLEM = {PROBLEM_TYPE: {"schema": ref(Problem)}}
_HEADERS: dict[str, Any] = {
    "x-request-id": {"description": "The id that the request sent, or a new one.", "schema": {"type": "string"}},
    "bebr-version": {"description": "Version of the service.", "schema": {"type": "string"}},
    "retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "location": {"description": "Path of the job.", "schema": {"type": "string"}},
    "www-authenticate": {"description": "How to send the key.", "schema": {"type": "string"}},
}
_OF_STATUS = {401: "www-authenticate", 429: "retry-after", 503: "retry-after", 507: "retry-after"}
"""The header that answers of a status have beside those of every answer."""
_PATH_PARAMETERS: dict[str, Any] = {
    "collection": {
        "description": "Name of the collection, or, except to create or delete one, an alias of it.",
        "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    },
    "id": {
        "description": f"Id of the point: at most {MAX_ID_BYTES} bytes.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES},
    },
    "job": {"description": "Id of the job.", "schema": {"type": "string", "minLength": 1}},
    "version": {"description": "Id of the code version.", "schema": {"type": "string", "minLength": 1}},
    "model": {"description": "Id of the bundle, or its name for the newest version.", "schema": {"type": "string"}},
}
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
    answer_type: str = JSON
    """Content type of the answer."""
    access: Access = Access.WRITE
    """A read-only key may call what reads. A new route is closed to it until it says so."""
    errors: Errors = ()
    body: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    """Model by content type of the body; None: bytes."""
    body_required: bool = True
    status: int = 200
    accepted: bool = False
    """Whether the same answer comes with 202 where a job goes on."""
    description: str = ""
    for_openai: bool = False
    """Whether errors have the shape of OpenAI's."""
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
            extra["requestBody"] = {
                "required": self.body_required,
                "content": {kind: {"schema": _schema(kind, model)} for kind, model in self.body.items()},
            }
        if self.idempotent:
            extra["parameters"] = [_IDEMPOTENCY_KEY]
        return extra

    def _responses(self) -> dict[int | str, dict[str, Any]]:
        responses: dict[int | str, dict[str, Any]] = {self.status: self._success()}
        if self.accepted:
            responses[202] = self._success() | {"description": "Done, but for the job."}
        by_status: dict[int, list[str]] = {}
        for error in (*ALWAYS, *(WITH_BODY if self.body else ()), *self.errors):
            by_status.setdefault(status_of(error), []).append(error.__name__)
        by_status.setdefault(500, []).append("InternalError")
        for status, names in sorted(by_status.items()):
            responses[status] = {
                "description": ", ".join(dict.fromkeys(names)),
                "headers": _headers(_OF_STATUS.get(status)),
                "content": {JSON: {"schema": ref(OpenAiError)}} if self.for_openai else _PROBLEM,
            }
        return responses

    def _success(self) -> dict[str, Any]:
        schema = {"type": "string"} if self.answer is None else _schema(self.answer_type, self.answer)
        return {
            "description": "Done.",
            "headers": _headers("location" if self.answer is JobAccepted else None),
            "content": {self.answer_type: {"schema": schema}},
        }


def build_document(
    app: FastAPI, raw_operations: Mapping[str, Mapping[str, dict[str, Any]]], limits: Limits
) -> dict[str, Any]:
    """The whole document. `raw_operations`: path -> method -> operation object of routes that FastAPI does not know."""
    document = get_openapi(title="bebr", version=__version__, description=DESCRIPTION, routes=app.routes)
    document["paths"] = dict(sorted({**document["paths"], **raw_operations}.items()))
    for path_item in document["paths"].values():
        for operation in path_item.values():
            _drop_frameworks_error(operation)
            operation["parameters"] = [_parameter(given) for given in operation.get("parameters", ())]
    components = document.setdefault("components", {})
    derived = {k: tidied(v, {}) for k, v in components.get("schemas", {}).items() if k not in _FRAMEWORKS_SCHEMAS}
    ours = schemas_of([FrameHeader, *models_of(requests), *models_of(responses)], limits)
    components["schemas"] = dict(sorted((derived | ours).items()))
    components["headers"] = _HEADERS
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    }
    document["security"] = [{}, {"bearer": []}, {"api-key": []}]
    return document


def _schema(kind: str, model: type[BaseModel] | None) -> dict[str, Any]:
    """The schema of a body of this content type."""
    if model is None:
        return {"type": "string", "format": "binary"}
    if kind == NDJSON:  # a schema is about the whole body, which has one JSON document per line
        return {"type": "string", "format": "binary", LINE_SCHEMA: ref(model)}
    return ref(model)


def _parameter(given: dict[str, Any]) -> dict[str, Any]:
    """The parameter as the document has it: what path parameters look like stands in one table."""
    if given["in"] == "path":
        return {"name": given["name"], "in": "path", "required": True, **_PATH_PARAMETERS[given["name"]]}
    return given


def _headers(more: str | None) -> dict[str, Any]:
    names = ("x-request-id", "bebr-version", *([more] if more else ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _drop_frameworks_error(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to routes with parameters; ours has one of our shapes, and is only for bodies."""
    schema = operation["responses"].get("422", {}).get("content", {}).get(JSON, {}).get("schema", {})
    if schema.get("$ref", "").endswith(_FRAMEWORKS_SCHEMAS):
        del operation["responses"]["422"]
