"""What the store keeps about a collection: its shards, fields, code versions, fit and upgrades."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bebr.core.lists import DEFAULT_RECALL
from bebr.core.types import FieldType
from bebr.engine.collections.field_change import AutoFields, FieldChange
from bebr.engine.collections.upgrades import Upgrades
from bebr.engine.collections.version import Version, VersionKind

_ALWAYS_STORED = ("bytes", "sample", "due", "failed")
"""Keys of a stored fit that every release wrote."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of the codes of a fit, on points of the collection."""

    version: int
    """Number of the version with these codes."""
    recall_at_10: float
    """Share of the 10 nearest by float cosine that they find."""
    queries: int
    """For how many points that was measured."""
    searched: int
    """Among how many other points."""
    points: int
    """How many points the collection had then."""
    error: float | None = None
    """Mean of 1 - cosine of an embedding and what its code stands for; None where that is nothing."""
    rescored_recall_at_10: float | None = None
    """The same share for the scores of their rescore codes; None without these."""


class FitSource(StrEnum):
    """What a binarizer is fitted to."""

    WRITES = "writes"
    """Points that are written from now on, which are buffered."""
    SAMPLE = "sample"
    """The embeddings that are kept of some points."""
    CODES = "codes"
    """What the rescore codes of the points stand for; all of them get new codes."""


@dataclass(frozen=True, slots=True)
class FitPlan:
    """The last fit that was requested."""

    bytes: int
    """Bytes per code."""
    sample: int
    """Embeddings to fit to. More are collected, so that they are like the rest."""
    due: bool = False
    """Fit now, to the embeddings that are there."""
    failed: str | None = None
    """Why no binarizer could be fitted."""
    kept: int | None = None
    """Number of the version that the fit chose because it measured better than what was fitted; None: it did not."""
    at_fit: Measured | None = None
    """What was measured when its version became active; None for fits of before this was kept."""
    latest: Measured | None = None
    """What was measured last, as the collection grew."""
    source: FitSource = FitSource.WRITES
    """What it is fitted to."""
    rescore_bytes: int | None = None
    """Bytes per rescore code; None for none."""
    cpu_seconds: float | None = None
    """CPU seconds that it may take, about; None: what suits the dims."""
    cancelled: bool | None = None
    """Whether somebody ended it, which is why it has failed."""

    @property
    def drift(self) -> float | None:
        """How much further its codes are from their embeddings than they were at the fit, as a share of that."""
        if self.at_fit is None or self.latest is None or self.at_fit.version != self.latest.version:
            return None
        before, now = self.at_fit.error, self.latest.error
        return None if before is None or now is None else now / max(before, 1e-9) - 1

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it: what is None is left out, but for what older releases wrote."""
        document = asdict(self)
        if self.source is FitSource.WRITES:
            del document["source"]
        return {key: value for key, value in document.items() if key in _ALWAYS_STORED or value is not None}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "FitPlan":
        measured = {key: Measured(**document[key]) for key in ("at_fit", "latest") if document.get(key) is not None}
        source = FitSource(document.get("source", FitSource.WRITES))
        return cls(**{**document, **measured, "source": source})


@dataclass(frozen=True, slots=True)
class Import:
    """The import that a collection was made by."""

    id: str
    """As its caller named it."""
    whole: bool = False
    """Whether it has said that all points are there. Until then the collection answers nothing."""


@dataclass(frozen=True, slots=True)
class CollectionDocument:
    """What the store keeps about a collection."""

    uid: str
    """Names its data, so that the name of a deleted collection can be used again at once."""
    created_at: str
    """ISO 8601."""
    shards: int
    """How many there are."""
    filterable: Mapping[str, FieldType]
    """Metadata fields that filters may use."""
    versions: tuple[Version, ...]
    """By number. None is ever removed, because stored points and segments name it."""
    active: int
    """Number of the version that writes and queries use."""
    fit: FitPlan | None = None
    """The last fit that was requested; None: there never was one."""
    text_field: str | None = None
    """Metadata field that holds the text of a point, so that another model can encode it later."""
    upgrades: Upgrades = field(default_factory=Upgrades)
    recall: float | None = DEFAULT_RECALL
    """Share of the exact hits that searches by lists find; None: all searches are exact."""
    field_change: FieldChange | None = None
    """The last change of the filterable fields."""
    auto: AutoFields | None = None
    """New keys of metadata become filterable by themselves; None: they do not."""
    imported: Import | None = None
    """The import that it was made by; None: it was not, or by one that did not name itself."""

    @property
    def partial(self) -> bool:
        """Whether an import of it runs, or was cut short."""
        return self.imported is not None and not self.imported.whole

    @property
    def checked_fields(self) -> Mapping[str, FieldType]:
        """The fields that metadata must fit to be stored: those that somebody declared."""
        if self.auto is None or not self.auto.fields:
            return self.filterable
        return {key: kind for key, kind in self.filterable.items() if key not in self.auto.fields}

    @property
    def fields_change(self) -> bool:
        """Whether columns of filterable fields are still to be made."""
        return self.field_change is not None and not self.field_change.state.ended

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

    def of_model(self, version: Version) -> list[Version]:
        """The versions with codes of embeddings by the same model, in order of their numbers."""
        return [one for one in self.coded if one.model_fingerprint == version.model_fingerprint]

    def version(self, version_id: str) -> Version | None:
        """The version with codes of that id."""
        return next((version for version in self.coded if version.id == version_id), None)

    def _newest(self, kind: VersionKind) -> Version | None:
        return next((version for version in reversed(self.versions) if version.kind is kind), None)

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "uid": self.uid,
            "created_at": self.created_at,
            "shards": self.shards,
            "filterable": {key: str(kind) for key, kind in self.filterable.items()},
            "versions": [version.to_document() for version in self.versions],
            "active": self.active,
        }
        if self.fit is not None:
            document["fit"] = self.fit.to_document()
        if self.text_field is not None:
            document["text_field"] = self.text_field
        if self.upgrades != Upgrades():
            document["upgrades"] = self.upgrades.to_document()
        if self.recall != DEFAULT_RECALL:
            document["recall"] = self.recall
        if self.field_change is not None:
            document["field_change"] = self.field_change.to_document()
        if self.auto is not None:
            document["auto"] = asdict(self.auto)
        if self.imported is not None:
            document["import"] = asdict(self.imported)
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "CollectionDocument":
        fit, change, auto = document.get("fit"), document.get("field_change"), document.get("auto")
        return cls(
            uid=document["uid"],
            created_at=document["created_at"],
            shards=document["shards"],
            filterable={key: FieldType(kind) for key, kind in document["filterable"].items()},
            versions=tuple(Version.from_document(n, entry) for n, entry in enumerate(document["versions"])),
            active=document["active"],
            fit=None if fit is None else FitPlan.from_document(fit),
            text_field=document.get("text_field"),
            upgrades=Upgrades.from_document(document["upgrades"]) if "upgrades" in document else Upgrades(),
            recall=document.get("recall", DEFAULT_RECALL),
            field_change=None if change is None else FieldChange.from_document(change),
            auto=None if auto is None else AutoFields.from_document(auto),
            imported=Import(**document["import"]) if "import" in document else None,
        )
