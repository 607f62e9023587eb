"""Whether queries of one version can search the codes of the others. Checked before a version is attached, promoted or
retired, so that no search fails afterwards."""

from bebr.encoding import AdapterKind
from bebr.engine.collections.collection import Collection
from bebr.engine.collections.encoders import CollectionEncoders
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version
from bebr.engine.search.route import find_route
from bebr.errors import Conflict, Incompatible, InvalidOption


def check_reach(
    collection: Collection, document: CollectionDocument, encoders: CollectionEncoders, version: Version
) -> None:
    """Raise Incompatible unless queries of a version can search the codes of all versions in use, and take texts where
    the active version does.

    document: as it is to be; encoders: opened for it. Raises what went wrong with the version's own bundle.
    """
    encoders.codec(version)
    points = collection.shards.points()
    for other in document.versions:
        if other.retired or other.model_fingerprint == version.model_fingerprint:
            continue
        if other.number not in (document.active, document.upgrades.previous) and not points.get(other.number):
            continue
        has_text = encoders.embeds(version) and encoders.embeds(other)
        if find_route(encoders, version.model_fingerprint, other.model_fingerprint, has_text) is None:
            raise _cannot_search(version, other)
    if encoders.takes_text(document.active_version) and not encoders.takes_text(version):
        raise Incompatible(
            f"'{collection.name}' takes texts, and bundle '{version.id}' has no embedding model; add one with "
            "'bebr models pull'",
            version=version.id,
        )


def check_remaining_routes(collection: Collection, encoders: CollectionEncoders, retired: Version) -> None:
    """Raise Conflict where queries of the active version reach stored codes only over a version to be retired.

    encoders: opened without that version.
    """
    active, points = collection.active.model_fingerprint, collection.shards.points()
    for other in collection.document.coded:
        if not points.get(other.number) or other.model_fingerprint == active:
            continue
        before = find_route(collection.encoders, active, other.model_fingerprint, False)
        after = find_route(encoders, active, other.model_fingerprint, False)
        if before is not None and after is None:
            raise Conflict(
                f"queries reach the codes of '{other.id}' over '{retired.id}'; backfill those points first",
                version=retired.id,
                other=other.id,
            )


def check_adapter(collection: Collection, kind: AdapterKind | None, version: Version, other: Version) -> None:
    """Raise InvalidOption for a kind of adapter that a version's queries do not have to the other's codes."""
    if kind is None:
        return
    encoders = collection.encoders
    adapter = encoders.adapter(version, other)
    has_text = encoders.embeds(version) and encoders.embeds(other)
    same_model = version.model_fingerprint == other.model_fingerprint
    if same_model or (adapter is None and kind is not AdapterKind.DUAL) or (kind.needs_text and not has_text):
        raise InvalidOption(
            f"adapter '{kind}' does not apply: there is none of that kind from '{version.id}' to '{other.id}'",
            key="adapter",
        )


def _cannot_search(version: Version, other: Version) -> Incompatible:
    model = other.model or other.id
    named = f"'{model}'" if other.model_fingerprint is None else f"'{model}' ({other.model_fingerprint[:16]}...)"
    return Incompatible(
        f"queries of '{version.id}' cannot search the codes of '{other.id}': its manifest does not name {named} as "
        "compatible, and not both embed texts; make it with 'bebr train --compatible-with'",
        version=version.id,
        other=other.id,
    )
