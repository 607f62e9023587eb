"""Answers about points: what a write did, and points as they were read.

Points are written by hand, since one answer can hold thousands: their metadata is JSON text already and is spliced in,
not parsed. A test holds what is written to the models.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from json import dumps
from json.encoder import encode_basestring as quote
from typing import Any

from pydantic import Field

from bebr.engine import results
from bebr.server.responses.base import Absent, Answer


class ItemError(Answer):
    index: int = Field(description="Position of the point in the request, from 0.")
    id: Any = Field(description="Its id, as it was sent.")
    error: str = Field(description="Name of the error.", examples=["InvalidVector"])
    detail: str


class WriteReport(Answer):
    applied: int = Field(description="Points that were written.")
    rejected: int = Field(description="Points that were refused; `items` names each.")
    items: list[ItemError]
    seq: dict[int, int] = Field(description="Last sequence number of each shard that was written, by shard.")

    @classmethod
    def of(cls, report: results.WriteReport) -> "WriteReport":
        return cls.model_validate(report, from_attributes=True)


class StoredPoint(Answer):
    id: str
    version: str = Field(description="Code version of its code.")
    metadata: dict[str, Any] | Absent = Field(None, description="Unless `with_metadata` is false.")
    code_b64: str | Absent = Field(None, description="With `with_code`: the code and its gain, as base64.")


class Points(Answer):
    points: list[StoredPoint] = Field(description="In the order of the ids.")
    missing: list[str] = Field(description="Ids that do not exist.")


class ScrollPage(Answer):
    points: list[StoredPoint] = Field(description="By ascending id.")
    cursor: str | None = Field(description="Send it back for the next page; null on the last one.")


class DeletedPoints(Answer):
    """`deleted` and `seq`, or `would_delete` of a dry run."""

    deleted: int | Absent = Field(default=None, description="Points that were deleted.")
    would_delete: int | Absent = Field(
        default=None, description="Points that a request without `dry_run` would delete."
    )
    seq: dict[int, int] | Absent = Field(
        default=None, description="Last sequence number of each shard that was written."
    )

    @classmethod
    def of(cls, changed: results.Changed, dry_run: bool) -> "DeletedPoints":
        if dry_run:
            return cls(would_delete=changed.points)
        return cls(deleted=changed.points, seq=changed.seq)


class Updated(Answer):
    updated: int = Field(description="Points whose metadata was set.")
    seq: dict[int, int] = Field(description="Last sequence number of each shard that was written, by shard.")


class Counted(Answer):
    count: int


def point_json(point: results.Point) -> bytes:
    """A `StoredPoint`."""
    return _point(point).encode()


def points_json(points: Iterable[results.Point], missing: Sequence[str]) -> bytes:
    """A `Points`."""
    return f'{{"points":[{",".join(map(_point, points))}],"missing":{dumps(missing)}}}'.encode()


def page_json(page: results.Page) -> bytes:
    """A `ScrollPage`."""
    return f'{{"points":[{",".join(map(_point, page.points))}],"cursor":{dumps(page.cursor)}}}'.encode()


def optional_fields(metadata: str | None, code: bytes | None) -> str:
    """The fields of a point or a hit that follow the others where they were requested."""
    text = "" if metadata is None else f',"metadata":{metadata}'
    return text if code is None else f'{text},"code_b64":"{b64encode(code).decode()}"'


def _point(point: results.Point) -> str:
    return f'{{"id":{quote(point.id)},"version":{quote(point.version)}{optional_fields(point.metadata, point.code)}}}'
