"""A collection that could not be opened: what is known of it, and the error of requests to it. The others serve."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bebr.engine.collections.schema import CollectionDocument
from bebr.engine.statuses import CollectionStatus
from bebr.errors import BebrError, DamagedCollection, Unavailable
from bebr.store import DamagedDocument

log = logging.getLogger(__name__)
PASSING = (Unavailable, OSError)
"""Errors that may pass by themselves."""
_UID = re.compile(r"[a-z0-9]{16,32}")
_UID_IN_TEXT = re.compile(rf'"uid": ?"({_UID.pattern})"')


@dataclass(frozen=True, slots=True)
class DamagedEntry:
    """What is known of a collection that cannot be used."""

    name: str
    reason: str
    """What went wrong when it was opened."""
    uid: str | None
    """Names its data; None where its document does not say."""
    document: CollectionDocument | None = None
    """None where it cannot be read."""
    passing: bool = False
    """Whether the error may pass by itself, so that opening is tried again."""

    def error(self) -> DamagedCollection:
        """For whoever asks for the collection."""
        remedy = "the service goes on trying to open it" if self.passing else "restore its files, then restart"
        return DamagedCollection(
            f"collection '{self.name}' cannot be used: {self.reason}; {remedy}, or delete it", collection=self.name
        )

    def status(self) -> CollectionStatus:
        """As users see it: empty where nothing is known."""
        document = self.document
        active = document.active_version if document else None
        versions = document.versions if document else ()
        return CollectionStatus(
            name=self.name,
            ready=False,
            damage=self.reason,
            points={},
            bundle=active.model if active else None,
            code=str(active.spec) if active else "",
            code_bytes=active.spec.code_size_bytes if active else 0,
            active_version=active.id if active else "",
            versions=list(dict.fromkeys(version.id for version in versions if not version.retired)),
            fit=None,
            takes=[],
            text_field=document.text_field if document else None,
            filterable=document.filterable if document else {},
            shards=[],
            memory_bytes=0,
            created_at=document.created_at if document else "",
            encoder_error=None,
        )


def damaged(name: str, document: CollectionDocument, error: Exception) -> DamagedEntry:
    """The collection of a sound document, which opening failed for."""
    passing = isinstance(error, PASSING)
    known = isinstance(error, BebrError)
    reason = error.detail if isinstance(error, BebrError) else f"{type(error).__name__}: {error}"
    log.error("collection %s cannot be opened: %s", name, reason, exc_info=None if known or passing else error)
    return DamagedEntry(name, reason, document.uid, document, passing)


def read_document(name: str, stored: Mapping[str, Any] | DamagedDocument) -> CollectionDocument | DamagedEntry:
    """The document of a collection as the store has it."""
    if isinstance(stored, DamagedDocument):
        uid = _UID_IN_TEXT.search(stored.text)
        entry = DamagedEntry(name, stored.reason, uid[1] if uid else None)
    else:
        try:
            document = CollectionDocument.from_document(stored)
            if _UID.fullmatch(document.uid) and 0 <= document.active < len(document.versions):
                return document
            raise ValueError("its uid or its active version cannot be")
        except Exception as error:  # whatever is missing or of another type
            reason = f"its document in the store is not what bebr wrote: {type(error).__name__}: {error}"
            found = str(stored.get("uid"))
            entry = DamagedEntry(name, reason, found if _UID.fullmatch(found) else None)
    log.error("collection %s cannot be opened: %s", name, entry.reason)
    return entry
