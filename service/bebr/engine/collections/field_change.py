"""How the filterable fields of a collection change: what the store keeps of the last change, and of fields that come by
themselves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bebr.core.types import FieldType, JobState
from bebr.shards import Misfits

NAMED = 10
"""Ids of misfits that are told of each field."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """The last change of the fields of points that there were already. A change that comes meanwhile joins it."""

    job: str
    """Id of its job."""
    fields: Mapping[str, FieldType | None]
    """The fields that are added, or get another type; None: that are dropped."""
    total: int
    """How many points there were when it began."""
    created_at: float
    """Seconds since 1970."""
    state: JobState = JobState.RUNNING
    finished_at: float | None = None
    """Seconds since 1970."""
    detail: str | None = None
    """Why it failed."""
    found: Mapping[str, Mapping[str, Misfits]] = field(default_factory=dict)
    """Misfits by field, of each piece of the points that was read."""

    def with_found(self, piece: str, misfits: Mapping[str, Misfits]) -> "FieldChange":
        found = {name: entry for name, entry in self.found.items() if name != piece}
        return replace(self, found=found | {piece: misfits} if misfits else found)

    def without(self, keys: Mapping[str, Any]) -> "FieldChange":
        """Without what was found of these fields, whose types change again."""
        found = {
            piece: left
            for piece, entry in self.found.items()
            if (left := {key: misfits for key, misfits in entry.items() if key not in keys})
        }
        return replace(self, found=found)

    def misfits(self) -> dict[str, Misfits]:
        """By field: the points whose values do not fit it."""
        found: dict[str, Misfits] = {}
        for _, entry in sorted(self.found.items()):
            for key, more in entry.items():
                before = found.get(key, Misfits(0, ()))
                found[key] = Misfits(before.count + more.count, (*before.ids, *more.ids)[:NAMED])
        return found

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "FieldChange":
        """Inverse of `dataclasses.asdict`."""
        return cls(
            **{
                **document,
                "fields": {k: None if kind is None else FieldType(kind) for k, kind in document["fields"].items()},
                "state": JobState(document["state"]),
                "found": {
                    piece: {key: Misfits(one["count"], tuple(one["ids"])) for key, one in entry.items()}
                    for piece, entry in document["found"].items()
                },
            }
        )

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AutoFields:
    """New keys of metadata become filterable by themselves."""

    fields: tuple[str, ...] = ()
    """The fields that came so: points whose value does not fit are stored without the field, not refused."""
    dropped: tuple[str, ...] = ()
    """Keys that were dropped, and do not come again."""

    def after(self, added: Mapping[str, FieldType | None], by_itself: bool) -> "AutoFields":
        """After fields were added or dropped, by the user or by themselves."""
        kept = tuple(key for key in self.fields if key not in added)
        if by_itself:
            return replace(self, fields=(*kept, *added))
        gone = [key for key, kind in added.items() if kind is None]
        return AutoFields(kept, tuple(dict.fromkeys([*(k for k in self.dropped if k not in added), *gone])))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "AutoFields":
        """Inverse of `dataclasses.asdict`."""
        return cls(tuple(document["fields"]), tuple(document["dropped"]))
