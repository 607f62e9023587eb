"""Collections and their aliases, and the bundles and members of the service: operations as flows, as in `points`."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Literal

from bebr.client import wire
from bebr.client.steps import Flow, Request, json_request
from bebr.core.types import FieldType


class Default(Enum):
    """What stands for the default of the service, where None means something else."""

    DEFAULT = "default"


DEFAULT = Default.DEFAULT


def list_collections() -> Flow[list[dict[str, Any]]]:
    """All collections, with their numbers of points and their codes."""
    response = yield json_request("GET", "/v1/collections")
    found: list[dict[str, Any]] = response.json()["collections"]
    return found


def create_collection(
    name: str,
    *,
    bundle: str | None = None,
    code: str | None = None,
    dims: int | None = None,
    fit: Mapping[str, float] | bool | None = None,
    shards: int | None = None,
    filterable: Mapping[str, FieldType | str] | Literal["auto"] | None = None,
    text_field: str | None = None,
    recall: float | Default | None = DEFAULT,
) -> Flow[dict[str, Any]]:
    """Create a collection with a bundle ('minilm@2'), for vectors of your own (dims=1536), or for your own codes
    (code='256x2'). Raises AlreadyExists.

    filterable: types of the metadata fields that filters may use; "auto": new keys become filterable by themselves.
    dims: of your own vectors; with code='int8' they keep 8 bits a dim. fit: `{"bytes": 64, "sample": 20000}`: a
    binarizer is fitted to the first `sample` points, and "rescore_bytes": 128 adds a finer code of each point, on disk;
    True: the same with sizes that suit the dims, which is what dims alone do; False: no fit. text_field:
    metadata field that keeps the texts of points, so that another model can encode them later. recall: share of the
    exact hits that searches of a large collection find; None: all searches are exact.
    """
    given: dict[str, Any] = {"bundle": bundle, "code": code, "dims": dims, "fit": fit, "shards": shards}
    given |= {"filterable": filterable, "text_field": text_field}
    value = {field: item for field, item in given.items() if item is not None}
    if recall is not DEFAULT:
        value["recall"] = recall
    response = yield json_request("PUT", collection_path(name), value, repeatable=False)
    created: dict[str, Any] = response.json()
    return created


def describe_collection(name: str) -> Flow[dict[str, Any]]:
    """Points per code version and shard, bytes in memory, active version, seq."""
    response = yield json_request("GET", collection_path(name))
    description: dict[str, Any] = response.json()
    return description


def update_collection(
    name: str,
    *,
    recall: float | Default | None = DEFAULT,
    filterable: Mapping[str, FieldType | str | None] | Literal["auto", "declared"] | None = None,
) -> Flow[dict[str, Any]]:
    """Change a collection; what is not given stays.

    recall: share of the exact hits that searches find; None: all searches are exact. filterable: types of metadata
    fields that filters may use from now on; None in the place of a type drops a field. "auto": new keys become
    filterable by themselves; "declared": no more of them. Where points have to be read for fields, the answer has a
    "job" to wait for (`wait_job`); filters on these fields are a Conflict until it has succeeded.
    """
    value: dict[str, Any] = {} if recall is DEFAULT else {"recall": recall}
    if filterable is not None:
        value["filterable"] = filterable
    response = yield json_request("PATCH", collection_path(name), value)
    changed: dict[str, Any] = response.json()
    return changed


def delete_collection(name: str) -> Flow[None]:
    """Delete a collection with all its points."""
    yield json_request("DELETE", collection_path(name), repeatable=False)


def list_members() -> Flow[list[dict[str, Any]]]:
    """The services that share the store; none where one has it to itself."""
    response = yield json_request("GET", "/v1/members")
    members: list[dict[str, Any]] = response.json()["members"]
    return members


def list_aliases() -> Flow[dict[str, str]]:
    """Alias -> collection."""
    response = yield json_request("GET", "/v1/aliases")
    aliases: dict[str, str] = response.json()["aliases"]
    return aliases


def update_aliases(actions: Sequence[Mapping[str, Any]]) -> Flow[None]:
    """Apply `{"create": {"alias", "collection"}}` and `{"delete": {"alias"}}`, all or none."""
    yield json_request(
        "POST", "/v1/aliases", {"actions": wire.a_list(actions, "actions", "{'create': {...}}")}, repeatable=False
    )


def list_bundles() -> Flow[list[dict[str, Any]]]:
    """The bundles of the service."""
    response = yield json_request("GET", "/v1/bundles")
    bundles: list[dict[str, Any]] = response.json()["bundles"]
    return bundles


def check_ready() -> Flow[None]:
    """Return if the service has caught up with its store and its models are warm. Raises NotReady, Unavailable."""
    yield Request("GET", "/readyz", retried=False)


def collection_path(name: str) -> str:
    """The path of a collection or alias."""
    return f"/v1/collections/{wire.segment(name, 'collection')}"
