"""What the store keeps about a collection: its shards, fields, code versions, fit and upgrades."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bebr.core.types import FieldType
from bebr.engine.collections.version import Version, VersionKind


@dataclass(frozen=True, slots=True)
class FitPlan:
    """The last fit that was asked for: bytes of a code, and how many embeddings to gather first.

    due: fit now, with what is there. failed: why it could not be fitted.
    """

    bytes: int
    sample: int
    due: bool = False
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """The last backfill: points of other versions are re-encoded as `version` (id). total: how many there were.

    rate: points a second at most. state, times: as of a job. skipped: points that hold no text. applied: how many were
    re-encoded, known once it rests.
    """

    job: str
    version: str
    rate: float
    total: int
    created_at: float
    state: str
    finished_at: float | None = None
    skipped: int = 0
    applied: int = 0
    detail: str | None = None

    @property
    def ended(self) -> bool:
        return self.state not in ("running", "paused")


@dataclass(frozen=True, slots=True)
class Upgrades:
    """What became of the versions that were attached.

    previous: number of the version that was active before the last promotion, while one may go back to it. adapters: by
    fingerprint of another embedding model, the kind of adapter from the active version's queries to its codes, where
    one was chosen; previous_adapters: those of the version before. evaluations: by '<active id> -> <evaluated id>', the
    latest result. history: promotions and rollbacks, newest last.
    """

    previous: int | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    previous_adapters: Mapping[str, str] = field(default_factory=dict)
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    backfill: Backfill | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Upgrades":
        document = _in_todays_words(document)
        backfill = document["backfill"]
        return cls(
            document["previous"],
            document["adapters"],
            document["previous_adapters"],
            document["evaluations"],
            tuple(document["history"]),
            None if backfill is None else Backfill(**backfill),
        )


def _in_todays_words(upgrades: Mapping[str, Any]) -> Mapping[str, Any]:
    """Documents written before adapters were called so say `ways`, and `adapter` for the linear kind."""
    if "ways" not in upgrades:
        return upgrades
    keys = {"way": "adapter", "ways": "adapters", "previous_ways": "previous_adapters"}

    def kind(value: str | None) -> str | None:
        return "linear" if value == "adapter" else value

    def renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {keys.get(key, key): kind(value) if key == "way" else value for key, value in entry.items()}

    def evaluation(entry: Mapping[str, Any]) -> dict[str, Any]:
        return renamed(entry) | {"adapters": {kind(key): cell for key, cell in entry["ways"].items()}}

    return renamed(upgrades) | {
        "adapters": {model: kind(value) for model, value in upgrades["ways"].items()},
        "previous_adapters": {model: kind(value) for model, value in upgrades["previous_ways"].items()},
        "evaluations": {pair: evaluation(entry) for pair, entry in upgrades["evaluations"].items()},
        "history": [renamed(event) for event in upgrades["history"]],
    }


@dataclass(frozen=True, slots=True)
class CollectionDocument:
    """What the store keeps about a collection. uid names its data, so that a name can be used again at once.

    text_field: the metadata field that holds the text of a point, from which it can be encoded anew.

    A version's number is its place in `versions`: none is ever removed, for stored points and segments name it.
    """

    uid: str
    created_at: str
    shards: int
    filterable: Mapping[str, FieldType]
    versions: tuple[Version, ...]
    active: int
    fit: FitPlan | None = None
    text_field: str | None = None
    upgrades: Upgrades = field(default_factory=Upgrades)

    @property
    def active_version(self) -> Version:
        return self.versions[self.active]

    @property
    def buffered(self) -> Version | None:
        """The newest version in which embeddings wait for a fit; None where there never was a fit.

        There is one for each embedding model whose embeddings were fitted to.
        """
        return self._newest(VersionKind.BUFFERED)

    @property
    def fitted(self) -> Version | None:
        """The newest version whose binarizer was fitted to this collection."""
        return self._newest(VersionKind.FITTED)

    @property
    def coded(self) -> list[Version]:
        """The versions with codes: neither buffered nor retired."""
        return [
            version for version in self.versions if version.kind is not VersionKind.BUFFERED and not version.retired
        ]

    def version(self, version_id: str) -> Version | None:
        """The version with codes of that id."""
        return next((version for version in self.coded if version.id == version_id), None)

    def _newest(self, kind: VersionKind) -> Version | None:
        return next((version for version in reversed(self.versions) if version.kind is kind), None)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "uid": self.uid,
            "created_at": self.created_at,
            "shards": self.shards,
            "filterable": {key: str(kind) for key, kind in self.filterable.items()},
            "versions": [version.to_document() for version in self.versions],
            "active": self.active,
        }
        if self.fit is not None:
            document["fit"] = asdict(self.fit)
        if self.text_field is not None:
            document["text_field"] = self.text_field
        if self.upgrades != Upgrades():
            document["upgrades"] = asdict(self.upgrades)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "CollectionDocument":
        fit = document.get("fit")
        return cls(
            uid=document["uid"],
            created_at=document["created_at"],
            shards=document["shards"],
            filterable={key: FieldType(kind) for key, kind in document["filterable"].items()},
            versions=tuple(Version.from_document(n, entry) for n, entry in enumerate(document["versions"])),
            active=document["active"],
            fit=None if fit is None else FitPlan(**fit),
            text_field=document.get("text_field"),
            upgrades=Upgrades.from_json(document["upgrades"]) if "upgrades" in document else Upgrades(),
        )
