"""What a collection is beside its points: its document, the binarizers that were fitted for it, what scores between
models are calibrated with, its aliases. What comes in is checked before anything is stored."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bebr.encoding import Bundle, BundleRegistry
from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.collections.version import Version, VersionKind
from bebr.errors import BebrError, BundleNotFound, Conflict, Incompatible, InvalidOption

FORMAT = 1
_LEFT_OUT = ("uid", "created_at", "import")
_OPTIONAL = frozenset({"upgrades", "recall", "fit", "text_field", "field_change", "auto"})
"""Keys that a document with their defaults does not have."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A collection without its points."""

    name: str
    """As it was called."""
    collection: Mapping[str, Any]
    """Its document, without what is new in every service."""
    binarizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those that were fitted for it, by id."""
    calibrations: Sequence[Mapping[str, Any]] = ()
    """`from`, `to`: fingerprints of two embedding models; `sample`: what their scores are calibrated with."""
    aliases: Sequence[str] = ()
    """Its other names."""
    points: int = 0
    """How many there were when it was read."""
    format: int = FORMAT


def document_out(document: CollectionDocument) -> dict[str, Any]:
    """The part of a document that another service takes over. What its last jobs did is no part of it.

    Raises Conflict while fields are being added: columns would be missing there.
    """
    if document.fields_change:
        raise Conflict("filterable fields are being added; wait for that job, then do it again")
    kept = replace(document, upgrades=replace(document.upgrades, backfill=None), field_change=None)
    return {key: value for key, value in kept.to_document().items() if key not in _LEFT_OUT}


def document_in(definition: Definition, uid: str, created_at: str) -> CollectionDocument:
    """The document of the new collection. Raises InvalidOption for what is none."""
    if definition.format != FORMAT:
        raise InvalidOption(f"expected a definition of format {FORMAT}, got {definition.format}", key="format")
    given = {**definition.collection, "uid": uid, "created_at": created_at}
    try:
        document = CollectionDocument.from_document(given)
        if unknown := given.keys() - document.to_document().keys() - _OPTIONAL:
            raise ValueError(f"unknown field {min(unknown)!r}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, BebrError) as error:
        raise _invalid(f"{type(error).__name__} {error}") from error
    if type(document.active) is not int or not 0 <= document.active < len(document.versions):
        raise _invalid(f"'active' must be the number of one of {len(document.versions)} versions")
    if document.active_version.retired:
        raise _invalid("its active version is retired")
    if type(document.shards) is not int or not isinstance(document.text_field, str | None):
        raise _invalid("'shards' must be a whole number, and 'text_field' a string")
    for version in document.versions:
        _check_layout(version)
    return document


def check_bundles(document: CollectionDocument, bundles: BundleRegistry) -> None:
    """Raise BundleNotFound or Incompatible where this service lacks a bundle that made codes or embeddings."""
    for version in document.versions:
        if version.retired:
            continue
        needed = {(version.model, version.model_fingerprint)}
        if version.kind is VersionKind.BUNDLE:
            needed.add((version.bundle, version.fingerprint))
        for bundle_id, fingerprint in needed:
            if bundle_id is None:
                continue
            try:
                bundle = bundles.get(bundle_id, fingerprint)
            except (BundleNotFound, Incompatible) as error:
                raise type(error)(
                    f"the collection needs the bundle {bundle_id} with fingerprint {fingerprint or ''!s:.16}..., as it "
                    f"is in the other service: {error.detail}"
                ) from error
            if version.kind is VersionKind.BUNDLE and bundle_id == version.bundle:
                check_codes(version, bundle)


def check_codes(version: Version, bundle: Bundle) -> None:
    """Raise InvalidOption unless a bundle makes the codes that a version has."""
    if bundle.spec != version.spec or not np.array_equal(bundle.steps, version.steps):
        raise _invalid(f"version '{version.id}' has codes '{version.spec}', and its bundle makes '{bundle.spec}'")


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value in which ids and fingerprints are replaced, wherever they stand."""
    if isinstance(value, str):
        for old, new in names.items():
            value = re.sub(rf"{re.escape(old)}(?![0-9A-Za-z])", new, value)
        return value
    if isinstance(value, Mapping):
        return {renamed(key, names): renamed(item, names) for key, item in value.items()}
    return [renamed(item, names) for item in value] if isinstance(value, list | tuple) else value


def _check_layout(version: Version) -> None:
    if version.steps.shape != (len(version.spec.blocks),) or not (version.steps > 0).all():
        raise _invalid(f"version '{version.id}' needs one positive step for each block of '{version.spec}'")
    try:
        own = version.own_codec
    except (TypeError, ValueError, BebrError) as error:
        raise _invalid(f"version '{version.id}': {error}") from error
    if own is not None and (own.spec != version.spec or not np.array_equal(own.steps, version.steps)):
        raise _invalid(f"codes of version '{version.id}' are not those of its dims")
    needs_bundle = version.kind in (VersionKind.BUNDLE, VersionKind.FITTED)
    if needs_bundle and (version.bundle is None or version.fingerprint is None):
        raise _invalid(f"version '{version.id}' needs a bundle and its fingerprint")


def _invalid(reason: str) -> InvalidOption:
    return InvalidOption(f"the definition is not one that a service wrote: {reason:.300}", key="collection")
