"""Whole collections as flows: what one is beside its points, and its points with their codes. Two services exchange
what these return as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from bebr.client import wire
from bebr.client.collections import collection_path
from bebr.client.points import BATCH_POINTS
from bebr.client.results import WriteReport
from bebr.client.steps import Flow, json_request


def get_definition(name: str) -> Flow[dict[str, Any]]:
    """Everything of a collection but its points: fields, code versions, fitted binarizers, aliases."""
    response = yield json_request("GET", f"{collection_path(name)}/definition")
    definition: dict[str, Any] = response.json()
    return definition


def create_from_definition(
    name: str, definition: Mapping[str, Any], *, import_id: str | None = None
) -> Flow[dict[str, Any]]:
    """Create a collection as `get_definition` of another service described it, without points. Aliases are not set.

    import_id: any name of your own for this import. The collection answers nothing until `import_points` was told that
    these are the last; one that another import left by half is replaced.
    Raises AlreadyExists; BundleNotFound and Incompatible where this service lacks a bundle that its codes need.
    """
    response = yield json_request(
        "PUT",
        f"{collection_path(name)}/definition",
        dict(definition) if import_id is None else {**definition, "import_id": import_id},
        repeatable=False,
        patient=True,
    )
    created: dict[str, Any] = response.json()
    return created


def export_page(name: str, *, cursor: str | None = None, limit: int = BATCH_POINTS) -> Flow[dict[str, Any]]:
    """`{"points": [...], "cursor"}`: points with their codes by ascending id, as `import_points` takes them."""
    value = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
    response = yield json_request("POST", f"{collection_path(name)}/points/export", value)
    page: dict[str, Any] = response.json()
    return page


def import_points(
    name: str, points: Sequence[Mapping[str, Any]], *, import_id: str | None = None, last: bool = False
) -> Flow[WriteReport]:
    """Write points as `export_page` gave them; the report lists invalid ones. Repeating it changes nothing.

    import_id: that of `create_from_definition`. last: with these the import is whole, unless one is invalid. Raises
    Conflict where the collection is another import's.
    """
    value: dict[str, Any] = {"points": wire.a_list(points, "points", "{'id': 'a', ...}")}
    if import_id is not None:
        value["import_id"] = import_id
    if last:
        value["last"] = True
    response = yield json_request("POST", f"{collection_path(name)}/points/import", value)
    return WriteReport.from_json(response.json())
