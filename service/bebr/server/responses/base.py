"""What all answers share: they are closed, and the models that document them also write them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from bebr.engine.answers import INLINE_BYTES

Absent = SkipJsonSchema[None]
"""`field: Type | Absent = None` is left out where there is none. A field without a default is always there."""


class Answer(BaseModel):
    """Base of every answer: its fields and no others."""

    model_config = ConfigDict(extra="forbid")


def to_json(answer: BaseModel) -> bytes:
    """The answer as it is sent."""
    return answer.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def json_response(answer: BaseModel | bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The answer, or one that was written as JSON already."""
    body = answer if isinstance(answer, bytes) else to_json(answer)
    return Response(body, status, headers, media_type="application/json")


async def written(size_bytes: int, write: Callable[..., bytes], *arguments: Any) -> bytes:
    """What `write` makes of the arguments, in a thread where it is large. size_bytes: about."""
    if size_bytes > INLINE_BYTES:
        return await asyncio.to_thread(write, *arguments)
    return write(*arguments)


def iso(seconds: float | None) -> str | None:
    """Seconds since 1970 -> ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Problem(Answer):
    """RFC 9457. `error` is the class of the error. In `fields`, `key` names the field at fault and `at` the place in a
    filter; the other entries depend on the error."""

    type: str = Field(examples=["/docs#DimensionMismatch"])
    title: str = Field(examples=["Dimension mismatch"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["the vector must have 384 numbers, got 3"])
    error: str = Field(examples=["DimensionMismatch"])
    fields: dict[str, Any] = Field(examples=[{"key": "vector", "expected": 384, "got": 3}])
