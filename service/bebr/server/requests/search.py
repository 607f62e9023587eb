"""Requests to search."""

from pydantic import Field, FiniteFloat
from pydantic.config import JsonDict

from bebr.core.scoring import Scorer
from bebr.engine.search.parse import MAX_GROUP_SIZE
from bebr.server.requests.base import (
    MAX_ITEMS,
    Base64,
    Body,
    Consistency,
    Id,
    MinSeq,
    Natural,
    Positive,
    Recall,
    Text,
    Vector,
    WithMetadata,
    documented,
)
from bebr.server.requests.filters import EXAMPLE_FILTER, Filter
from bebr.server.requests.points import SOURCES

EXAMPLE_SEARCH: JsonDict = {"text": "how do I parse a date", "limit": 3, "filter": EXAMPLE_FILTER}


class Rescore(Body):
    model_config = documented({"candidates": 100})
    candidates: Positive = Field(
        description="Number of candidates of the scan to score again, at least `limit` are; with `group_by`, number of "
        "groups. Default: as many as the fit measured to be enough, scaled with `limit`.",
        json_schema_extra={"maximum": "max_candidates"},
    )


class Search(Body):
    """Exactly one of `text`, `vector`, `vector_b64`, `code_b64` and `id`."""

    model_config = documented(EXAMPLE_SEARCH, exactly_one=(*SOURCES, "id"))
    text: Text | None = Field(None, examples=["how do I parse a date"])
    vector: Vector | None = Field(None, description="The embedding of the query.")
    vector_b64: Base64 | None = Field(
        None, description="The embedding as base64 of little-endian float32: faster to parse than `vector`."
    )
    code_b64: Base64 | None = Field(None, description="A code as base64, with or without its gain.")
    id: Id | None = Field(None, description="Id of a stored point, to find points like it.")
    limit: Positive = Field(10, description="Number of hits.", json_schema_extra={"maximum": "max_limit"})
    offset: Natural = Field(0, description="Number of hits to skip.", json_schema_extra={"maximum": "max_limit"})
    scorer: Scorer | None = Field(None, description="Default adc for texts and vectors, sdc for codes and ids.")
    filter: Filter | None = None
    score_threshold: FiniteFloat | None = Field(None, description="Only return hits with at least this score.")
    with_metadata: WithMetadata = True
    with_code: bool = Field(False, description="Return the codes of the hits.")
    cursor: str | None = Field(None, description="The `cursor` of the previous answer, instead of `offset`.")
    version: str | None = Field(None, description="Code version of the query. Default: the active version.")
    group_by: str | None = Field(
        None, description="Filterable field to group hits by: at most `group_size` per value; `limit` counts groups."
    )
    group_size: Positive = Field(
        1, description="Number of hits per group.", json_schema_extra={"maximum": MAX_GROUP_SIZE}
    )
    rescore: bool | Rescore | None = Field(
        None,
        description="Score the best candidates again by their rescore codes, which lie on disk. Default: where points "
        "have some. false: hits have the scores of the scan.",
    )
    exact: bool = Field(
        False,
        description="Compare all codes, instead of the lists that may have hits. Collections of few points always do.",
    )
    recall: Recall | None = Field(
        None,
        description="Share of the hits of an exact search that this one finds, on average. Default: the `recall` of "
        "the collection. Does not apply with `exact`, with scorer hamming or with `group_by`, which are exact.",
        examples=[0.95],
    )
    min_seq: MinSeq | None = None
    consistency: Consistency | None = None
    explain: bool = Field(False, description="Add how the search was computed: time per stage, shards, bytes scanned.")


class SearchBatch(Body):
    model_config = documented({"searches": [EXAMPLE_SEARCH, {"id": "a", "limit": 3}]})
    searches: list[Search] = Field(
        min_length=1, max_length=MAX_ITEMS, fail_fast=True, json_schema_extra={"maxItems": "max_batch_searches"}
    )
