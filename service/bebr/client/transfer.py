"""Whole collections as flows: what one is beside its points, and its points with their codes. Two services exchange
what these return as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from bebr.client import wire
from bebr.client.operations import BATCH_POINTS, collection_path
from bebr.client.results import WriteReport
from bebr.client.steps import Flow, json_request


def get_definition(name: str) -> Flow[dict[str, Any]]:
    """Everything of a collection but its points: fields, code versions, fitted binarizers, aliases."""
    response = yield json_request("GET", f"{collection_path(name)}/definition")
    definition: dict[str, Any] = response.json()
    return definition


def create_from_definition(name: str, definition: Mapping[str, Any]) -> Flow[dict[str, Any]]:
    """Create a collection as `get_definition` of another service described it, without points. Aliases are not set.

    Raises AlreadyExists; BundleNotFound and Incompatible where this service lacks a bundle that its codes need.
    """
    response = yield json_request(
        "PUT", f"{collection_path(name)}/definition", definition, repeatable=False, patient=True
    )
    created: dict[str, Any] = response.json()
    return created


def export_page(name: str, *, cursor: str | None = None, limit: int = BATCH_POINTS) -> Flow[dict[str, Any]]:
    """`{"points": [...], "cursor"}`: points with their codes by ascending id, as `import_points` takes them."""
    value = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
    response = yield json_request("POST", f"{collection_path(name)}/points/export", value)
    page: dict[str, Any] = response.json()
    return page


def import_points(name: str, points: Sequence[Mapping[str, Any]]) -> Flow[WriteReport]:
    """Write points as `export_page` gave them; the report lists invalid ones. Repeating it changes nothing."""
    value = {"points": wire.a_list(points, "points", "{'id': 'a', ...}")}
    response = yield json_request("POST", f"{collection_path(name)}/points/import", value)
    return WriteReport.from_json(response.json())
