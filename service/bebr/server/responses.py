"""The shapes of answers, for the OpenAPI document, and the responses that carry them.

Answers are built by the engine and are not validated again on the way out; tests hold them to these models.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.responses import Response


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON."""
    return Response(to_json(content), status, headers, media_type="application/json")


class Answer(BaseModel):
    """Base of every answer."""


class Problem(Answer):
    """RFC 9457. `error` is the class of the error; in `fields`, `key` names the field at fault and `at` the place in a
    filter; the rest depends on the error."""

    type: str = Field(examples=["/docs#DimensionMismatch"])
    title: str = Field(examples=["Dimension mismatch"])
    status: int = Field(examples=[400])
    detail: str = Field(examples=["the vector must have 384 numbers, got 3"])
    error: str = Field(examples=["DimensionMismatch"])
    fields: dict[str, Any] = Field(examples=[{"key": "vector", "expected": 384, "got": 3}])


class Bundle(Answer):
    name: str
    version: str
    id: str
    code: str
    code_bytes: int
    embedding_dims: int
    fingerprint: str


class BundleList(Answer):
    bundles: list[dict[str, Any]]


class FitStatus(Answer):
    """A collection's own fit. `code` and metrics are those of its newest fitted binarizer."""

    state: str = Field(description="collecting, fitting, failed, converting or done.")
    bytes: int
    sample: int = Field(description="Embeddings to collect before the fit.")
    collected: int = Field(description="Points that wait as embeddings.")
    detail: str | None = Field(description="What a fit is doing, or why it failed.")
    version: str | None
    code: str | None
    recall_at_10: float | None = Field(description="Of the float neighbours of held-out embeddings.")
    queries: int | None = Field(description="How many were held out.")


class Collection(Answer):
    model_config = ConfigDict(extra="allow")
    name: str
    fit: FitStatus | None = None


class FitAccepted(Answer):
    name: str
    fit: FitStatus


class Version(Answer):
    id: str
    code: str
    code_bytes: int
    model: str | None = Field(description="Bundle whose embedding model makes its embeddings.")
    fingerprint: str | None
    active: bool
    retired: bool
    points: int


class Versions(Answer):
    collection: str
    active: str
    previous: str | None = Field(description="What a rollback makes active.")
    text_field: str | None
    versions: list[Version]
    evaluations: dict[str, dict[str, Any]] = Field(description="The last of each pair, by 'active -> version'.")
    history: list[dict[str, Any]] = Field(description="Promotions and rollbacks.")
    backfill: str | None = Field(description="Job of the last backfill.")


class Quality(Answer):
    ndcg_at_10: float
    recall_at_10: float


class GainInterval(Answer):
    mean: float
    low: float
    high: float


class VersionEvaluation(Answer):
    """Cells that could not be measured are null."""

    model_config = ConfigDict(extra="allow")
    active: str
    version: str
    measure: str = Field(description="ndcg_at_10 with judged queries, else recall_at_10 of the new float neighbours.")
    judged: bool
    queries: int
    points: int
    adapter: str
    old_to_old: Quality | None
    new_to_old: Quality
    new_to_new: Quality | None
    mixed: dict[str, Quality] = Field(description="By percentage of points with new codes.")
    adapters: dict[str, dict[str, Any]]
    gain: GainInterval | None = Field(description="Of new->old over old->old, with its 95 % interval.")
    update_gain: float | None
    negative_flips: float | None


class VersionEvent(Answer):
    """A promotion or a rollback."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    event: str
    from_: str = Field(alias="from")
    to: str
    at: float


class CollectionList(Answer):
    collections: list[Collection]


class Deleted(Answer):
    deleted: str


class Aliases(Answer):
    aliases: dict[str, str] = Field(description="Alias -> collection.")


class ItemError(Answer):
    index: int = Field(description="Position of the point in the request, from 0.")
    id: Any = None
    error: str
    detail: str


class WriteReport(Answer):
    applied: int
    rejected: int
    items: list[ItemError]
    seq: dict[str, int] = Field(description="Last sequence number of each shard that was written.")


class StoredPoint(Answer):
    model_config = ConfigDict(extra="allow")
    id: str
    version: str
    metadata: dict[str, Any] | None = None
    code_b64: str | None = None


class Points(Answer):
    points: list[StoredPoint]
    missing: list[str]


class DeletedPoints(Answer):
    deleted: int | None = None
    would_delete: int | None = None
    seq: dict[str, int] | None = None


class ScrollPage(Answer):
    points: list[StoredPoint]
    cursor: str | None = Field(description="Null on the last page.")


class Counted(Answer):
    count: int


class Updated(Answer):
    updated: int


class Hit(Answer):
    model_config = ConfigDict(extra="allow")
    id: str
    score: float
    version: str
    metadata: dict[str, Any] | None = None
    distance: int | None = None
    code_b64: str | None = None


class SearchAnswer(Answer):
    hits: list[Hit]
    query_version: str
    searched: dict[str, int] = Field(description="How many points of which code versions were covered.")
    took_ms: float
    cursor: str | None
    explain: dict[str, Any] | None = None


class SearchBatchAnswer(Answer):
    results: list[SearchAnswer]


class Embedding(Answer):
    object: str = "embedding"
    index: int
    embedding: list[float] | str


class Usage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(Answer):
    object: str = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class JobAccepted(Answer):
    job: str


class Job(Answer):
    model_config = ConfigDict(extra="allow")
    job: str
    kind: str = Field(description="ingest or backfill.")
    collection: str
    state: str = Field(description="queued, running, paused, succeeded, failed or cancelled.")
    applied: int = Field(description="Points that were written.")
    rejected: int = Field(description="Lines that were refused; of a backfill, points without text.")
    rate_per_s: float
    eta_s: float | None
    detail: str | None = Field(description="Why it failed, or what it waits for.")
    created_at: str
    finished_at: str | None


class JobList(Answer):
    jobs: list[Job]


class LineError(Answer):
    line: int
    id: Any = None
    error: str
    detail: str


class Health(Answer):
    status: str
