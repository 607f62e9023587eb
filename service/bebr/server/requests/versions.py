"""Requests about code versions."""

from typing import Annotated

from pydantic import Field, FiniteFloat

from bebr.encoding import AdapterKind
from bebr.engine.versions.evaluation_data import MIN_POINTS
from bebr.server.requests.base import MAX_ITEMS, Body, Natural, Positive, Vector, documented

DEFAULT_SAMPLE = 300
MAX_VERSIONS = 1_000
RelevantIds = Annotated[list[str], Field(max_length=MAX_ITEMS, fail_fast=True)]


class AttachVersion(Body):
    model_config = documented({"bundle": "minilm@2"})
    bundle: str = Field(description="Id of the bundle.", examples=["minilm@2"])


class JudgedQuery(Body):
    """Exactly one of `text` and `vectors`."""

    model_config = documented({"text": "parse a date", "relevant": ["a"]}, exactly_one=("text", "vectors"))
    text: str | None = Field(None, examples=["parse a date"])
    vectors: dict[str, Vector] | None = Field(
        None,
        max_length=MAX_VERSIONS,
        description="Embeddings of the query, by id of the version whose model made each.",
    )
    relevant: RelevantIds | dict[str, Annotated[float, Field(ge=0, le=1000)]] | None = Field(
        None,
        description="Relevance judgments: ids of the points that answer the query, or grades by id.",
        examples=[["a"]],
    )


class EvaluateVersion(Body):
    """Give `queries`, or a `sample` of the points to use as queries; these need their texts (`text_field`)."""

    model_config = documented({"version": "minilm@2", "sample": 200, "points": 2_000})
    version: str | None = Field(None, description="Id of the version. Default: the newest one that is not active.")
    queries: list[JudgedQuery] | None = Field(
        None, min_length=1, max_length=MAX_ITEMS, fail_fast=True, description="All with `relevant`, or none."
    )
    sample: Positive | None = Field(
        None,
        description=f"Number of points to use as queries. Default {DEFAULT_SAMPLE}.",
        json_schema_extra={"maximum": "max_limit"},
    )
    points: Positive = Field(
        2_000,
        description="Number of points to search; the new model embeds each.",
        json_schema_extra={"minimum": MIN_POINTS, "maximum": "max_evaluation_points"},
    )
    adapter: AdapterKind | None = Field(None, description="Kind of adapter to report on. Default: the best of all.")
    seed: Natural = Field(0, description="Decides which points are drawn.")


class PromotionGate(Body):
    min_gain: FiniteFloat = Field(
        default=0.0, description="What new queries on old codes must gain over old queries on old codes."
    )


class PromoteVersion(Body):
    model_config = documented({"version": "minilm@2", "gate": {"min_gain": 0.0}})
    version: str = Field(examples=["minilm@2"])
    gate: PromotionGate = Field(default_factory=PromotionGate)
    force: bool = Field(False, description="Promote even if the gate fails; the history records it.")
    adapter: AdapterKind | None = Field(
        None, description="Adapter to existing codes. Default: the one that measured best."
    )


class Backfill(Body):
    model_config = documented({"rate_limit": 100})
    version: str | None = Field(None, description="Id of the active version.")
    rate_limit: FiniteFloat | None = Field(
        None, gt=0, description="Points per second at most. Default: the setting backfill_points_per_s."
    )
