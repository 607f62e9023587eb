"""Answers about bundles, collections and aliases."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Literal

from pydantic import Field

from bebr.core.types import FieldType
from bebr.encoding import Bundle as StoredBundle
from bebr.engine import statuses
from bebr.server.responses.base import Absent, Answer


class Bundle(Answer):
    name: str
    version: str
    id: str = Field(description="name@version.", examples=["minilm@2"])
    code: str | None = Field(description="CodeSpec of its codes; null without a binarizer.", examples=["256x2"])
    code_bytes: int | None = Field(description="Bytes per scan code, in memory.")
    rescore_bytes: int | None = Field(description="Bytes per rescore code, on disk; 0 if it makes none.")
    embedding_dims: int
    text: bool = Field(description="Whether it has an embedding model, so that it encodes texts.")
    fingerprint: str = Field(description="SHA-256 over the manifest; names the model.")
    compatible_with: list[str] = Field(description="Ids of the bundles whose codes its queries can search.")

    @classmethod
    def of(cls, bundle: StoredBundle) -> "Bundle":
        return cls(**asdict(bundle.summary()))


class BundleList(Answer):
    bundles: list[Bundle]


class FitStatus(Answer):
    """A collection's own fit. `version` and what follows describe its newest fitted binarizer."""

    state: Literal["collecting", "fitting", "failed", "converting", "done", "cancelled"]
    bytes: int = Field(description="Bytes per code.")
    sample: int = Field(description="Embeddings to fit to, which are collected first.")
    collected: int = Field(description="Points kept as embeddings: until the fit, then until they are re-encoded.")
    detail: str | None = Field(description="What a running fit is doing, or why a fit failed.")
    version: str | None = Field(description="Id of its code version.")
    code: str | None = Field(description="CodeSpec of its codes.")
    recall_at_10: float | None = Field(
        description="Share that its codes find of the 10 nearest by float cosine, among `searched` points. "
        "Among more points, codes of the same size find less."
    )
    queries: int | None = Field(description="Number of held-out points that recall was measured with.")
    searched: int | Absent = Field(None, description="Number of points, drawn at random, that they searched.")
    points: int | Absent = Field(None, description="Number of points in the collection when recall was measured.")
    drift: float | Absent = Field(
        None, description="How much further codes are from their embeddings than at the fit, as a share of that."
    )
    refit_proposed: bool | Absent = Field(
        None, description="Whether points have changed so much since the fit that another one is proposed."
    )
    rescore_bytes: int | Absent = Field(None, description="Bytes per rescore code, on disk; absent without one.")
    rescored_recall_at_10: float | Absent = Field(
        None, description="The same share after the candidates of the scan were scored by their rescore codes."
    )
    candidates: int | Absent = Field(None, description="Number of candidates that 10 hits were chosen from by that.")

    fitted_to: int | Absent = Field(
        None,
        description="Number of embeddings that it was fitted to: fewer than `sample` if `cpu_seconds` did not pay for "
        "all.",
    )
    cpu_seconds: float | Absent = Field(
        None, description="CPU seconds that the fit may take, about; absent: 60, or 120 for 1,536 dims, 240 for 3,072."
    )

    @classmethod
    def of(cls, fit: statuses.FitStatus) -> "FitStatus":
        return cls.model_validate(fit, from_attributes=True)


class Coverage(Answer):
    """What searches miss by taking shortcuts: some are answered once more without them, in the background."""

    share: float | None = Field(
        description="Share of the best hits without shortcuts that the last checked searches found; null if none was "
        "checked."
    )
    searches: int = Field(description="Searches checked since the start.")
    skipped: int = Field(description="Searches that were to be checked and were not: there was no time for them.")
    shortlist: float | Absent = Field(
        None,
        description="Share of the best hits that are found although only a shortlist, the best candidates of the scan, "
        "is scored by rescore codes.",
    )
    lists: float | Absent = Field(
        None, description="Share of the hits of searches of all codes that are found although few lists are read."
    )

    @classmethod
    def of(cls, coverage: statuses.CoverageStatus) -> "Coverage":
        shares = {str(shortcut): share for shortcut, share in coverage.of.items()}
        return cls(share=coverage.share, searches=coverage.searches, skipped=coverage.skipped, **shares)


class Lists(Answer):
    """The lists of one code version. Searches are exact until it was measured how many of them to read."""

    state: Literal["none", "making", "sorting", "ready"] = Field(
        description="`none`: they will be made; `making`: centroids are; `sorting`: codes are sorted by them, and "
        "searches read what is sorted."
    )
    progress: float = Field(description="Share that is done of what the state says, 0 to 1; 1 once it is `ready`.")
    generations: list[int] = Field(description="Of the centroids; most of the time there is one.")
    lists: int = Field(description="Number of lists.")
    points: int = Field(description="Number of points in them; all others are always compared.")
    current: int = Field(description="Number of points in lists of the newest centroids.")
    older: int = Field(description="Number of points in lists of older ones.")
    without: int = Field(description="Number of points in no list.")
    measured_at: str | None = Field(description="When it was measured; null if it was not yet.")
    queries: dict[str, int] = Field(
        description="Number of `points` of the collection, and of the last `searches`, that it was measured with."
    )
    delta: float | None = Field(
        description="Searches that want the `recall` of the collection read a list if its centroid scores at most this "
        "less than the last hit."
    )
    recall: float | None = Field(description="Share of the exact hits that these were measured to find.")
    share: float | None = Field(description="Share of all codes that these read, about.")


class Shard(Answer):
    shard: int = Field(description="Number of the shard, from 0.")
    points: dict[str, int] = Field(description="Points by code version.")
    seq: int = Field(description="Sequence number of the last operation applied.")
    parts: int = Field(description="Segments, the one in memory included.")


class FilterableField(Answer):
    type: FieldType
    state: Literal["ready", "building"] = Field(
        description="`building`: it was added to points that there are, and filters cannot use it yet."
    )
    progress: float = Field(description="Share of the points that were read for it, 0 to 1.")
    auto: bool | Absent = Field(
        None,
        description="Whether it became filterable by itself: points whose value does not fit are stored without it.",
    )

    @classmethod
    def of(cls, status: statuses.FieldStatus) -> "FilterableField":
        return cls(type=status.type, state=status.state, progress=status.progress, auto=status.auto or None)


def _state(status: statuses.CollectionStatus) -> Literal["ready", "loading", "importing", "damaged"]:
    if status.damage:
        return "damaged"
    if status.partial:
        return "importing"
    return "ready" if status.ready else "loading"


class Collection(Answer):
    name: str
    status: Literal["ready", "loading", "importing", "damaged"] = Field(
        description="`importing`: an import of it runs, or was cut short; it answers nothing until one is whole."
    )
    points: int
    points_per_version: dict[str, int]
    bundle: str | None = Field(description="Bundle whose model embeds texts; null for codes or vectors of your own.")
    code: str = Field(description="CodeSpec of the active version.", examples=["256x2"])
    code_bytes: int = Field(description="Bytes per code of the active version.")
    active_version: str = Field(description="Code version that writes and queries use.")
    compatible_versions: list[str] = Field(description="Code versions that one query searches together.")
    fit: FitStatus | None = Field(description="The collection's own fit; null if there never was one.")
    takes: list[str] = Field(
        description="What points can be written from: some of `text`, `vector`, `vector_b64` and `code_b64`.",
        examples=[["code_b64"]],
    )
    text_field: str | None = Field(description="Metadata field that keeps the text of a point.")
    filterable: dict[str, FieldType] = Field(description="Metadata fields that filters may use.")
    fields: dict[str, FilterableField] = Field(description="The same fields, and how far each is.")
    auto_filterable: bool = Field(description="Whether new keys of metadata become filterable by themselves.")
    shards: list[Shard]
    bytes_in_memory: int = Field(description="Bytes that a search without a filter scans.")
    created_at: str
    encoder_error: str | None = Field(description="Why texts and vectors cannot be encoded now; null if they can.")
    damaged_points: int = Field(description="Points that were found damaged in the store.")
    recall: float | None = Field(
        description="Share of the exact hits that searches find by reading lists; null: all searches are exact."
    )
    lists: dict[str, Lists] = Field(description="Lists of codes that searches read, by code version.")
    coverage: Coverage | Absent = Field(None, description="What searches find, by those that were checked.")
    damage: str | None = Field(
        description="Why it cannot be used; null if it can. What is not known of a damaged collection is empty."
    )

    @classmethod
    def of(cls, status: statuses.CollectionStatus) -> "Collection":
        return cls(
            name=status.name,
            status=_state(status),
            points=sum(status.points.values()),
            points_per_version=status.points,
            bundle=status.bundle,
            code=status.code,
            code_bytes=status.code_bytes,
            active_version=status.active_version,
            compatible_versions=status.versions,
            fit=None if status.fit is None else FitStatus.of(status.fit),
            takes=status.takes,
            text_field=status.text_field,
            filterable=dict(status.filterable),
            fields={key: FilterableField.of(one) for key, one in status.fields.items()},
            auto_filterable=status.auto_filterable,
            shards=[Shard(shard=s.number, points=s.points, seq=s.seq, parts=s.parts) for s in status.shards],
            bytes_in_memory=status.memory_bytes,
            created_at=status.created_at,
            encoder_error=status.encoder_error,
            damaged_points=status.damaged_points,
            recall=status.recall,
            lists={
                version: Lists.model_validate(lists, from_attributes=True) for version, lists in status.lists.items()
            },
            coverage=None if status.coverage is None else Coverage.of(status.coverage),
            damage=status.damage,
        )


class ChangedCollection(Collection):
    job: str | Absent = Field(None, description="Id of the job that reads the points for fields that were added.")


class CollectionList(Answer):
    collections: list[Collection]

    @classmethod
    def of(cls, found: Iterable[statuses.CollectionStatus]) -> "CollectionList":
        return cls(collections=[Collection.of(status) for status in found])


class FitAccepted(Answer):
    name: str
    fit: FitStatus


class Deleted(Answer):
    deleted: str = Field(description="Name of the collection.")


class Aliases(Answer):
    aliases: dict[str, str] = Field(description="Collection by alias.")
