"""Answers about the code versions of a collection."""

from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from bebr.encoding import AdapterKind
from bebr.engine.collections import upgrades
from bebr.engine.collections.version import VersionKind
from bebr.engine.versions.versions import VersionsStatus
from bebr.server.responses.base import Answer


class Version(Answer):
    id: str
    kind: VersionKind = Field(
        description="raw: your own codes. bundle: made by a bundle. rotated: training-free codes of your own vectors. "
        "buffered: embeddings kept with 8 bits a dim, until a fit or for good. fitted: made by a binarizer fitted to "
        "the collection."
    )
    code: str = Field(description="CodeSpec of its codes.")
    code_bytes: int = Field(description="Bytes per code.")
    model: str | None = Field(description="Bundle whose model makes its embeddings; null for vectors of your own.")
    fingerprint: str | None = Field(description="Fingerprint of the bundle whose binarizer makes its codes.")
    active: bool
    retired: bool
    points: int


class Quality(Answer):
    ndcg_at_10: float
    recall_at_10: float


class GainInterval(Answer):
    """A mean difference and its 95 % interval."""

    mean: float
    low: float
    high: float


class AdapterQuality(Quality):
    gain: GainInterval | None = Field(description="Over old queries on old codes.")


class VersionEvaluation(Answer):
    """Cells that could not be measured are null."""

    active: str
    version: str
    at: float = Field(description="When it was measured, in seconds since 1970.")
    measure: Literal["ndcg_at_10", "recall_at_10"] = Field(
        description="What `gain` is in: nDCG with relevance judgments, else recall of the new float neighbors."
    )
    judged: bool = Field(description="Whether the queries came with relevance judgments.")
    queries: int
    points: int
    adapter: AdapterKind = Field(description="Adapter from new queries to old codes, in the cells below.")
    old_to_old: Quality | None = Field(description="Old queries on old codes.")
    new_to_old: Quality = Field(description="New queries on old codes: right after a promotion.")
    new_to_new: Quality | None = Field(description="New queries on new codes: after a backfill.")
    mixed: dict[str, Quality] = Field(description="New queries, by percentage of points with new codes.")
    adapters: dict[AdapterKind, AdapterQuality] = Field(
        description="New queries on old codes, by kind of adapter that was measured."
    )
    gain: GainInterval | None = Field(description="Of `new_to_old` over `old_to_old`.")
    update_gain: float | None = Field(description="Share of the whole gain that a promotion brings at once.")
    negative_flips: float | None = Field(description="Share of the queries that a promotion makes worse.")

    @classmethod
    def of(cls, evaluation: upgrades.Evaluation) -> "VersionEvaluation":
        return cls.model_validate(asdict(evaluation))


class Promotion(Answer):
    model_config = ConfigDict(populate_by_name=True)
    event: Literal["promote"]
    from_: str = Field(alias="from")
    to: str
    at: float = Field(description="Seconds since 1970.")
    forced: bool = Field(description="Whether it did not pass the gate.")
    adapter: AdapterKind | None = Field(description="Adapter to old codes from then on.")
    gain: GainInterval | None = Field(description="What had been measured.")
    min_gain: float = Field(description="What the gate required.")

    @classmethod
    def of(cls, event: upgrades.Promotion) -> "Promotion":
        fields = asdict(event)
        return cls.model_validate(
            {"event": "promote", "from": fields.pop("from_version"), "to": fields.pop("to_version"), **fields}
        )


class Rollback(Answer):
    model_config = ConfigDict(populate_by_name=True)
    event: Literal["rollback"]
    from_: str = Field(alias="from")
    to: str
    at: float = Field(description="Seconds since 1970.")

    @classmethod
    def of(cls, event: upgrades.Rollback) -> "Rollback":
        return cls.model_validate(
            {"event": "rollback", "from": event.from_version, "to": event.to_version, "at": event.at}
        )


class Versions(Answer):
    collection: str
    active: str
    previous: str | None = Field(description="The version that a rollback makes active.")
    text_field: str | None = Field(description="Metadata field that keeps the text of a point.")
    versions: list[Version]
    evaluations: dict[str, VersionEvaluation] = Field(description="The last of each pair, by 'active -> version'.")
    history: list[Annotated[Promotion | Rollback, Field(discriminator="event")]] = Field(description="Newest last.")
    backfill: str | None = Field(description="Job of the last backfill.")

    @classmethod
    def of(cls, status: VersionsStatus) -> "Versions":
        return cls(
            collection=status.collection,
            active=status.active,
            previous=status.previous,
            text_field=status.text_field,
            versions=[Version(**asdict(version)) for version in status.versions],
            evaluations={pair: VersionEvaluation.of(found) for pair, found in status.evaluations.items()},
            history=[
                Promotion.of(event) if isinstance(event, upgrades.Promotion) else Rollback.of(event)
                for event in status.history
            ],
            backfill=status.backfill,
        )
