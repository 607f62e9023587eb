"""bebr as a document store of Haystack, with the client alone.

Metadata of a point: `content`, `meta.<key>` for each key of the document's meta, and `time.<key>` where a value is a
date, in seconds since 1970, so that ranges apply to it. A document without an embedding gets one that means nothing.
Embeddings are not given back: the service keeps codes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

import bebr

RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
NOTHING = {"has_id": []}


class BebrDocumentStore:
    """A collection for embeddings of `dims` numbers. `filterable`: types of the keys of meta that filters may use."""

    def __init__(self, url: str, collection: str, dims: int, filterable: Mapping[str, str]) -> None:
        self.url, self.collection, self.dims, self.filterable = url, collection, dims, dict(filterable)
        self._client = bebr.Client(url)
        self._create()

    def to_dict(self) -> dict[str, Any]:
        given = {"url": self.url, "collection": self.collection, "dims": self.dims, "filterable": self.filterable}
        return default_to_dict(self, **given)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "BebrDocumentStore":
        return default_from_dict(cls, data)

    def close(self) -> None:
        self._client.close()

    def count_documents(self) -> int:
        return self._client.count(self.collection)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        return self._client.count(self.collection, to_filter(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        try:
            return [_document(point) for point in self._client.scroll(self.collection, to_filter(filters))]
        except bebr.InvalidFilter as error:
            raise FilterError(error.detail) from error

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise ValueError("expected a list of documents")
        fresh = policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL)
        mode = "upsert" if policy is DuplicatePolicy.OVERWRITE else "insert_only"
        report = self._client.upsert(self.collection, map(self._point, documents), mode=mode)
        others = [item for item in report.items if item.error not in ("AlreadyExists", "DuplicateId")]
        if others:
            raise ValueError(others[0].detail)
        if report.items and fresh:
            raise DuplicateDocumentError(report.items[0].detail)
        return report.applied

    def delete_documents(self, document_ids: list[str]) -> None:
        self._client.delete(self.collection, document_ids)

    def delete_all_documents(self, recreate_index: bool = False) -> None:
        if recreate_index:
            self._client.delete_collection(self.collection)
            self._create()
        else:
            self._client.delete(self.collection, filter={})

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        return self._client.delete(self.collection, filter=to_filter(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        return self._client.set_metadata(self.collection, _flat(meta), filter=to_filter(filters))

    def embedding_retrieval(self, query_embedding: list[float], filters: Any = None, top_k: int = 10) -> list[Document]:
        only = to_filter(filters)
        found = self._client.search(self.collection, vector=query_embedding, limit=top_k, filter=only)
        return [_document(hit, hit.score) for hit in found]

    def _create(self) -> None:
        fields = {f"meta.{key}": kind for key, kind in self.filterable.items()}
        fields |= {f"time.{key}": "float" for key, kind in self.filterable.items() if kind == "keyword"}
        fit = {"bytes": self.dims // 8, "dims": self.dims}
        self._client.create_collection(self.collection, fit=fit, filterable=fields)

    def _point(self, document: Document) -> dict[str, Any]:
        vector = document.embedding or np.ones(self.dims)
        return {"id": document.id, "vector": vector, "metadata": {"content": document.content, **_flat(document.meta)}}


def to_filter(filters: dict[str, Any] | None) -> dict[str, Any] | None:
    """A filter of Haystack as one of bebr."""
    if not filters:
        return None
    condition = _condition(filters)
    return condition if condition.keys() <= {"must", "should", "must_not"} else {"must": [condition]}


def _condition(given: dict[str, Any]) -> dict[str, Any]:
    needed = {"field", "operator", "value"} if "field" in given else {"operator", "conditions"}
    if needed - given.keys():
        raise FilterError(f"a filter has {', '.join(sorted(needed))}, got {given}")
    if "field" in given:
        return _comparison(given["field"], given["operator"], given["value"])
    inner = [_condition(condition) for condition in given["conditions"]]
    match given["operator"]:
        case "AND":
            return {"must": inner}
        case "OR":
            return {"should": inner}
        case "NOT":
            return {"must_not": [{"must": inner}]}
    raise FilterError(f"unknown operator {given['operator']}")


def _comparison(field: str, operator: str, value: Any) -> dict[str, Any]:
    match operator:
        case "==" if value is None:
            return {"is_empty": {"key": field}}
        case "==":
            return {"key": field, "match": {"value": value}}
        case "in" if isinstance(value, list):
            return {"key": field, "match": {"any": value}}
        case "!=" | "not in" if operator == "!=" or isinstance(value, list):
            return {"must_not": [_comparison(field, {"!=": "==", "not in": "in"}[operator], value)]}
        case ">" | ">=" | "<" | "<=" if value is None:
            return NOTHING
        case ">" | ">=" | "<" | "<=":
            seconds = _seconds(value)
            key = field if seconds is None else field.replace("meta.", "time.", 1)
            return {"key": key, "range": {RANGES[operator]: value if seconds is None else seconds}}
    raise FilterError(f"{operator} does not take {value!r}")


def _flat(meta: dict[str, Any]) -> dict[str, Any]:
    times = {f"time.{key}": seconds for key, value in meta.items() if (seconds := _seconds(value)) is not None}
    return {f"meta.{key}": value for key, value in meta.items()} | times


def _seconds(value: Any) -> float | None:
    """Of a date in ISO 8601; None of anything else."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _document(found: Any, score: float | None = None) -> Document:
    meta = {key.removeprefix("meta."): value for key, value in found.metadata.items() if key.startswith("meta.")}
    return Document(id=found.id, content=found.metadata["content"], meta=meta, score=score)
