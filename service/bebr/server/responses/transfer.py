"""Answers about whole collections."""

from base64 import b64encode
from json import dumps
from json.encoder import encode_basestring as quote
from typing import Any

from pydantic import Field

from bebr.engine.transfer import ExportedPage
from bebr.server.responses.base import Answer


class CollectionDefinition(Answer):
    format: int = Field(description="1.")
    name: str
    collection: dict[str, Any] = Field(description="Its document: shards, fields, code versions, fit, upgrades.")
    binarizers: dict[str, dict[str, Any]] = Field(description="Those that were fitted for it, by id.")
    calibrations: list[dict[str, Any]] = Field(description="What scores between its models are calibrated with.")
    aliases: list[str]
    points: int = Field(description="How many points it had when this was read.")


class ExportedPoint(Answer):
    id: str
    version_number: int = Field(description="Place of its code version in the definition.")
    code_b64: str = Field(description="Its whole record: code and gain, and those of its rescore code.")
    metadata: dict[str, Any]


class ExportedPoints(Answer):
    points: list[ExportedPoint] = Field(description="By ascending id.")
    cursor: str | None = Field(description="Send it back for the next page; null on the last one.")


def exported_json(page: ExportedPage) -> bytes:
    """An `ExportedPoints`."""
    points = (
        f'{{"id":{quote(point.id)},"version_number":{point.version},"code_b64":"{b64encode(point.record).decode()}",'
        f'"metadata":{point.metadata}}}'
        for point in page.points
    )
    return f'{{"points":[{",".join(points)}],"cursor":{dumps(page.cursor)}}}'.encode()
