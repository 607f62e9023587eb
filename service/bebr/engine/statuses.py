"""How the service and its collections are, as callers of the engine see it. Plain data, as in `results.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from bebr.core.types import FieldType


class FitState(StrEnum):
    """State of a collection's fit."""

    COLLECTING = "collecting"
    """Embeddings are buffered until there are enough of them."""
    FITTING = "fitting"
    """A binarizer is fitted to them."""
    FAILED = "failed"
    """No binarizer could be fitted to them."""
    CONVERTING = "converting"
    """Points are re-encoded with the fitted binarizer."""
    DONE = "done"
    CANCELLED = "cancelled"
    """Somebody ended it; points stay as they are."""


@dataclass(frozen=True, slots=True)
class FitStatus:
    """How far a collection's fit is."""

    state: FitState
    bytes: int
    """Bytes per code."""
    sample: int
    """Embeddings to fit to."""
    collected: int
    """Points that wait as embeddings, or to get the codes of the fit."""
    detail: str | None
    """What a fit is doing, or why it failed."""
    version: str | None
    """Id of the newest version that was fitted."""
    code: str | None
    """Its CodeSpec."""
    recall_at_10: float | None
    """Its share of the 10 nearest by float cosine that the codes find."""
    queries: int | None
    """For how many held-out points that was measured."""
    searched: int | None
    """Among how many other points, drawn at random, their nearest are; None for fits of before this was kept."""
    points: int | None = None
    """How many points the collection had when that was measured."""
    drift: float | None = None
    """How much further codes are from their embeddings than at the fit, as a share of that; None: not known."""
    refit_proposed: bool | None = None
    """Whether that is so much that another fit is proposed."""
    rescore_bytes: int | None = None
    """Bytes per rescore code, which lie on disk; None for none."""
    rescored_recall_at_10: float | None = None
    """The same share after the candidates of the scan were scored by their rescore codes."""
    candidates: int | None = None
    """How many candidates that took."""
    fitted_to: int | None = None
    """To how many embeddings it was fitted: fewer than the sample where CPU seconds did not pay for all."""
    cpu_seconds: float | None = None
    """CPU seconds that a request allowed; None: what suits the dims."""


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard of a collection."""

    number: int
    points: dict[str, int]
    """By id of a code version."""
    seq: int
    """Seq of the last operation that its view holds."""
    parts: int
    """Parts of its view, which are scanned one by one."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What one search found of what there was to find."""

    found: int
    wanted: int


class Shortcut(StrEnum):
    """What lets a search pass over points."""

    SHORTLIST = "shortlist"
    """Only the best candidates of the scan are scored by their rescore codes."""
    LISTS = "lists"
    """Only the lists of codes that are likely to hold hits are read."""


@dataclass(frozen=True, slots=True)
class CoverageStatus:
    """How many of the best hits the searches of a collection find, by those that were checked."""

    share: float | None
    """Of the best hits without shortcuts, how many the last checked searches found; None: none was checked."""
    searches: int
    """Searches checked since the start."""
    skipped: int
    """Searches that were to be checked and were not: there was no time for them."""
    of: Mapping[Shortcut, float] = field(default_factory=dict)
    """The same share for each shortcut: what is found with it of what is found without it."""


class ListsState(StrEnum):
    """How far the lists of a code version are."""

    NONE = "none"
    """There are none; they will be made."""
    MAKING = "making"
    """Centroids are being made."""
    SORTING = "sorting"
    """Segments are being sorted by them."""
    READY = "ready"


@dataclass(frozen=True, slots=True)
class ListsStatus:
    """The lists of one code version, and what was measured of them."""

    state: ListsState
    progress: float
    """Which share is done of what the state says, 0 to 1."""
    generations: tuple[int, ...]
    """Of their centroids."""
    lists: int
    points: int
    """How many are in lists."""
    generation: int | None = None
    """The newest; None: there is none."""
    current: int = 0
    """Points in lists of the newest centroids."""
    older: int = 0
    """In lists of others."""
    without: int = 0
    """In none."""
    seconds: float | None = None
    """How long it took to make the newest centroids of their sample; None: it is not known."""
    measured_at: str | None = None
    """ISO 8601; None: they were not measured yet, and searches are exact."""
    queries: Mapping[str, int] = field(default_factory=dict)
    """How many points and how many searches they were measured with."""
    delta: float | None = None
    """Of searches that find the collection's recall; None where that, or a measurement, is missing."""
    recall: float | None = None
    """Share of the exact hits that these were measured to find."""
    share: float | None = None
    """Share of all codes that these read, about."""


@dataclass(frozen=True, slots=True)
class FieldStatus:
    """A filterable field."""

    type: FieldType
    state: Literal["ready", "building"]
    """Filters cannot use it before it is ready."""
    progress: float
    """The share of points whose metadata was read for it, 0 to 1."""
    auto: bool = False
    """Whether it became filterable by itself."""


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection as its users see it."""

    name: str
    ready: bool
    points: dict[str, int]
    """By id of a code version."""
    bundle: str | None
    """Bundle whose embedding model makes the embeddings of the active version."""
    code: str
    """CodeSpec of the active version."""
    code_bytes: int
    active_version: str
    versions: list[str]
    """Ids of the versions that are not retired; one query searches them all."""
    fit: FitStatus | None
    takes: list[str]
    """What points can be written from: some of `text`, `vector`, `vector_b64` and `code_b64`."""
    text_field: str | None
    filterable: Mapping[str, FieldType]
    shards: list[ShardStatus]
    memory_bytes: int
    """Bytes of codes and gains that a search without a filter scans."""
    created_at: str
    encoder_error: str | None
    """Why texts or vectors cannot be encoded now."""
    damaged_points: int = 0
    """Points found damaged in the store since the start, those left out of searches among them."""
    damaged_files: int = 0
    """How often a damaged segment file was found since the start; each was made anew from the store."""
    damage: str | None = None
    """Why the collection cannot be used; what is not known then is empty."""
    partial: bool = False
    """Whether an import of it runs, or was cut short."""
    rebuilding: int = 0
    """How many shards are rebuilt from the store now."""
    rebuilds: int = 0
    """How many were since the start."""
    losses: int = 0
    """How often since the start the store was found to have lost what it had acknowledged."""
    behind: int = 0
    """Operations of the store that are still to be applied, at most."""
    commits: int = 0
    """How many commits the store was asked for since the start."""
    commit_seconds: float = 0.0
    """How long they took in all."""
    recall: float | None = None
    """Share of the exact hits that searches by lists find; None: all searches are exact."""
    lists: Mapping[str, ListsStatus] = field(default_factory=dict)
    """By id of a code version whose codes are in lists."""
    coverage: CoverageStatus | None = None
    """What searches miss by taking shortcuts; None: none was to be checked since the start."""
    fields: Mapping[str, FieldStatus] = field(default_factory=dict)
    """The filterable fields."""
    auto_filterable: bool = False
    """Whether new keys of metadata become filterable by themselves."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether every collection is caught up with the store."""

    ready: bool
    problem: str | None = None
    """What keeps the service from being ready."""
    loading: list[str] = field(default_factory=list)
    """Collections that are not caught up yet."""
