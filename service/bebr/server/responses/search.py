"""Answers of searches. They are the hot path, so `search_json` writes them by hand; a test holds it to the models."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import lru_cache
from json.encoder import encode_basestring as quote
from typing import Any

from pydantic import Field

from bebr.core.scoring import SCORE_FORMAT, Scorer
from bebr.core.types import Hit as FoundHit
from bebr.engine import results
from bebr.server.responses.base import Absent, Answer
from bebr.server.responses.points import optional_fields

_quoted = lru_cache(maxsize=1024)(quote)
"""For ids of versions: there are few."""


class Hit(Answer):
    id: str
    score: float = Field(description="Higher is better. As `score_threshold` it keeps this hit.")
    version: str = Field(description="Code version of its code.")
    distance: int | Absent = Field(None, description="With scorer hamming: how many signs differ.")
    metadata: dict[str, Any] | Absent = Field(None, description="Unless `with_metadata` is false.")
    code_b64: str | Absent = Field(None, description="With `with_code`: the code and its gain, as base64.")


class RescoreExplanation(Answer):
    candidates: int = Field(description="Candidates of the scan scored again at a time; with `group_by`, groups.")
    rows_read: int = Field(description="Rescore codes that were read for this search.")
    ms: float = Field(description="Milliseconds that it took, for all searches that were scanned together.")


class ListsExplanation(Answer):
    generations: list[int] = Field(description="Of the centroids. Most of the time there is one.")
    recall: float = Field(description="Share of the exact hits that was wanted.")
    delta: float = Field(description="Lists are read while their centroid scores at most this less than the last hit.")
    lists: int = Field(description="Number of lists.")
    lists_read: int = Field(description="Number of lists that were read.")
    rows: int = Field(description="Number of codes in lists.")
    rows_read: int = Field(description="Number of codes in the lists that were read.")


class Explanation(Answer):
    """How the search was computed."""

    scorer: Scorer
    code: str = Field(description="CodeSpec of the query's version.")
    route: dict[str, str] = Field(description="Adapters that led to codes of other models, by code version.")
    stages_ms: dict[str, float] = Field(description="Milliseconds by stage.")
    shards: int
    parts: int = Field(description="Segments that were scanned, those in memory included.")
    scanned_bytes: int = Field(description="Bytes that a search without a filter scans.")
    rescore: RescoreExplanation | None = Field(
        description="Scores are those of the finer, rescore codes, where points have some; null: of the scan alone."
    )
    lists: dict[str, ListsExplanation] = Field(description="Lists that were read, by code version.")
    exact: str | None = Field(
        description="Why all codes were compared; null: of some version only those in lists were."
    )


class SearchAnswer(Answer):
    hits: list[Hit] = Field(description="Best first, ties by id.")
    query_version: str = Field(description="Code version of the query.")
    searched: dict[str, int] = Field(description="Number of points that the search covered, by code version.")
    took_ms: float
    cursor: str | None = Field(description="Send it back for the next page; null if there is none.")
    explain: Explanation | Absent = Field(None, description="With `explain`.")


class SearchBatchAnswer(Answer):
    results: list[SearchAnswer] = Field(description="In the order of the searches.")


def search_json(result: results.SearchResult) -> bytes:
    """A `SearchAnswer`. Metadata is JSON text already and is spliced in, not parsed."""
    explain = "" if result.explain is None else f',"explain":{_explanation(result.explain)}'
    searched = ",".join([f"{quote(version)}:{points}" for version, points in result.searched.items()])
    cursor = "null" if result.cursor is None else quote(result.cursor)
    return (
        f'{{"hits":[{",".join(_hits(result.hits))}],"query_version":{quote(result.query_version)},'
        f'"searched":{{{searched}}},"took_ms":{result.took_ms:.3f},"cursor":{cursor}{explain}}}'
    ).encode()


def search_batch_json(found: Iterable[results.SearchResult]) -> bytes:
    """A `SearchBatchAnswer`."""
    return b'{"results":[' + b",".join(map(search_json, found)) + b"]}"


def _hits(hits: Sequence[FoundHit]) -> list[str]:
    return [
        f'{{"id":{quote(point_id)},"score":{score:{SCORE_FORMAT}},"version":{_quoted(version)},"metadata":{metadata}}}'
        if metadata is not None and distance is None and code is None  # most hits
        else _hit(point_id, score, version, metadata, distance, code)
        for point_id, score, version, metadata, distance, code in hits
    ]


def _hit(
    point_id: str, score: float, version: str, metadata: str | None, distance: int | None, code: bytes | None
) -> str:
    measured = "" if distance is None else f',"distance":{distance}'
    more = optional_fields(metadata, code)
    return f'{{"id":{quote(point_id)},"score":{score:{SCORE_FORMAT}},"version":{_quoted(version)}{measured}{more}}}'


def _explanation(explain: results.Explanation) -> str:
    return Explanation.model_validate(asdict(explain)).model_dump_json()
