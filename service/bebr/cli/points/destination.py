"""The collection that `bebr ingest` writes to: created where it does not exist, and held to what the options say."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from bebr.core.types import FieldType
from bebr.errors import BundleNotFound, CollectionNotFound, Conflict, InvalidOption

if TYPE_CHECKING:
    from bebr.client import Client

PREFERRED_BUNDLE = "minilm"
"""Name of the bundle that is shipped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say of a collection."""

    bundle: str | None = None
    keep_text: str | None = None
    filterable: "Mapping[str, FieldType | None] | Literal['auto']" = field(default_factory=dict)


class Given(Protocol):
    """The points that are to be written."""

    def check_texts(self, text_field: str | None) -> None: ...

    def first_point(self) -> Mapping[str, Any] | None: ...


def find_or_create(service: "Client", name: str, wanted: Wanted, sources: Given) -> tuple[dict[str, Any], str | None]:
    """-> (its description, what to say of its creation). Raises Conflict where it exists and is something else."""
    try:
        described = service.describe_collection(name)
    except CollectionNotFound:
        sources.check_texts(wanted.keep_text)
        return _create(service, name, wanted, sources.first_point())
    _check(described, name, wanted)
    sources.check_texts(described["text_field"])
    return _with_fields(service, described, wanted)


def _create(
    service: "Client", name: str, wanted: Wanted, point: Mapping[str, Any] | None
) -> tuple[dict[str, Any], str]:
    options: dict[str, Any] = {"filterable": wanted.filterable or None, "text_field": wanted.keep_text}
    if wanted.bundle is not None:
        return service.create_collection(
            name, bundle=wanted.bundle, **options
        ), f"created '{name}' with {wanted.bundle}"
    if point is None:
        raise CollectionNotFound(f"no collection or alias '{name}', and nothing to create it for; create it first")
    if (dims := _dims(point)) is not None:
        made = service.create_collection(name, dims=dims, **options)
        said = f"created '{name}' for vectors of {dims} dims: {made['code_bytes']} bytes per code"
        return made, said + (", until a binarizer is fitted to the first of them" if made["fit"] else "")
    if point.get("text") is None:
        shown = ", ".join(map(str, list(point)[:8])) or "nothing"
        raise InvalidOption(
            f"no collection or alias '{name}'; create it with --bundle, or give points with a text or a vector: the "
            f"first one has {shown}. --flat makes keys of JSON objects columns"
        )
    bundle = _default_bundle(service.list_bundles())
    made = service.create_collection(name, bundle=bundle, **options)
    return made, f"created '{name}' with {bundle}, which embeds its texts; --bundle names another"


def _check(described: Mapping[str, Any], name: str, wanted: Wanted) -> None:
    """Raise Conflict where an option does not apply to a collection that exists."""
    bundle, kept = described["bundle"], described["text_field"]
    if wanted.bundle not in (None, bundle):
        has = f"texts are embedded by {bundle}" if bundle else "points bring vectors or codes of their own"
        raise Conflict(f"collection '{name}' exists, and its {has}, so --bundle '{wanted.bundle}' does not apply")
    if wanted.keep_text not in (None, kept):
        where = f"keeps its texts in '{kept}'" if kept else "was created without text_field and keeps no texts"
        raise Conflict(f"collection '{name}' {where}, so --keep-text '{wanted.keep_text}' does not apply")
    for key, kind in {} if wanted.filterable == "auto" else wanted.filterable.items():
        if (found := described["filterable"].get(key, kind)) != kind:
            raise Conflict(
                f"'{key}' is {found} in collection '{name}', so --filterable {key}={kind} does not apply; "
                "`bebr collection set` changes types"
            )


def _with_fields(service: "Client", described: dict[str, Any], wanted: Wanted) -> tuple[dict[str, Any], str | None]:
    """A collection that exists with the fields that it lacks, once they can be filtered by."""
    name = described["name"]
    if wanted.filterable == "auto":
        if described["auto_filterable"]:
            return described, None
        return service.update_collection(name, filterable="auto"), f"new keys of '{name}' become filterable"
    lacking = {key: kind for key, kind in wanted.filterable.items() if key not in described["filterable"]}
    if not lacking:
        return described, None
    changed = service.update_collection(name, filterable=lacking)
    if (job := changed.get("job")) is not None:
        service.wait_job(job)
    return changed, f"added to the filterable fields of '{name}': {', '.join(lacking)}"


def _default_bundle(bundles: Sequence[Mapping[str, Any]]) -> str:
    """The shipped one, else the first by name; of its versions the newest."""
    with_text = [bundle for bundle in bundles if bundle["text"] and bundle["code"]]
    if not with_text:
        raise BundleNotFound(
            "the service has no bundle that embeds texts; get one with `bebr models pull`, or bring vectors"
        )
    name = min((bundle["name"] for bundle in with_text), key=lambda name: (name != PREFERRED_BUNDLE, name))
    versions = [bundle for bundle in with_text if bundle["name"] == name]
    return str(max(versions, key=lambda bundle: _newest(bundle["version"]))["id"])


def _newest(version: str) -> tuple[tuple[int, str], ...]:
    """Sorts 10 after 9."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in version.replace("-", ".").split("."))


def _dims(point: Mapping[str, Any]) -> int | None:
    """How many numbers its vector has; None: it has none that can be read."""
    if (vector := point.get("vector")) is not None:
        return len(vector) or None if isinstance(vector, list | np.ndarray) else None
    try:
        text = point.get("vector_b64")
        return len(base64.b64decode(text, validate=True)) // 4 or None if isinstance(text, str) else None
    except binascii.Error:
        return None
