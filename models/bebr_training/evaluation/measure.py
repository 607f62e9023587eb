"""Measures single methods on one collection, and summarizes the results of all queries in rows with intervals.

The truth is the exact ranking by float cosine. Each method ranks by its codes alone. A code with a rescore code has one
more row: its best candidates, as many as the service takes, ranked by both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bebr.core.scoring import Scorer
from bebr_training.baselines.bound import search_at_bound
from bebr_training.baselines.numpy_methods import Variants
from bebr_training.baselines.spectrum import Documents
from bebr_training.data.collections import Collection
from bebr_training.evaluation.results import Kind, Row
from bebr_training.search.coded import Candidate, CodedDocuments
from bebr_training.search.metrics import Bootstrap, Values, ndcg_per_query, recall_per_query
from bebr_training.search.ranking import Rows, dot_search

DEPTH = 100
BOUND, BOUND_LENGTH_ONE, FLOAT = "Gaussian bound", "Gaussian bound, length one", "float"


@dataclass(frozen=True)
class Measured:
    """The metrics of one method and scorer, query by query."""

    method: str
    kind: Kind
    scorer: Scorer | None
    size_bytes: int
    used_bytes: float
    detail: str
    recall_10: Values
    """(queries,)."""
    recall_100: Values
    """(queries,)."""
    ndcg: Values
    """(queries with relevance judgments,)."""
    disk_bytes: int = 0
    """Bytes of the rescore code, where that ranks the candidates."""


class Measurer:
    """A collection with its truth."""

    def __init__(self, collection: Collection) -> None:
        self.collection, self.documents = collection, Documents(collection.documents)
        self._truth = dot_search(collection.documents)(collection.queries, DEPTH)

    def plain_floats(self) -> Measured:
        """The upper limit: recall is 1 by definition, and nDCG is what codes are compared with."""
        size_bytes = 4 * self.collection.dims
        return self._measured(
            FLOAT, Kind.FLOAT, None, size_bytes, size_bytes, f"{self.collection.dims} dims", self._truth
        )

    def codes(self, candidate: Candidate) -> list[Measured]:
        """A binarizer, with each scorer."""
        coded, size_bytes = CodedDocuments(candidate, self.collection.documents), candidate.spec.code_size_bytes
        detail = str(candidate.spec.scan)
        scanned = [
            self._measured(
                candidate.label,
                Kind.CODE,
                scorer,
                size_bytes,
                size_bytes,
                detail,
                coded.search(scorer)(self.collection.queries, DEPTH),
            )
            for scorer in (Scorer.ADC, Scorer.SDC, Scorer.HAMMING)
        ]
        return scanned if candidate.rescore is None else [*scanned, self._rescored(candidate, coded)]

    def rescored(self, candidate: Candidate) -> Measured:
        """A binarizer with a rescore code, whose scan code alone is measured already."""
        return self._rescored(candidate, CodedDocuments(candidate, self.collection.documents))

    def _rescored(self, candidate: Candidate, coded: CodedDocuments) -> Measured:
        spec, queries = candidate.spec, self.collection.queries
        detail = f"{spec}, {candidate.rescore_candidates} candidates"
        size_bytes = spec.code_size_bytes
        few, many = coded.rescored(10)(queries, 10), coded.rescored(DEPTH)(queries, DEPTH)
        measured = self._measured(candidate.label, Kind.CODE, Scorer.ADC, size_bytes, size_bytes, detail, many)
        return replace(
            measured,
            recall_10=recall_per_query(few, self._truth, 10),
            ndcg=ndcg_per_query(few, self.collection.judgments or {})[0],
            disk_bytes=spec.rescore_code_size_bytes,
        )

    def baseline(self, label: str, variants: Variants, size_bytes: int) -> list[Measured]:
        """A baseline in its best setting, for each of its scorers."""
        best: dict[Scorer, Measured] = {}
        for variant in variants(self.documents, size_bytes):
            found = variant.search(self.collection.queries, DEPTH)
            used, detail = variant.size_bytes, variant.detail
            now = self._measured(label, Kind.BASELINE, variant.scorer, size_bytes, used, detail, found)
            kept = best.get(variant.scorer)
            if kept is None or now.recall_10.mean() > kept.recall_10.mean():
                best[variant.scorer] = now
        return list(best.values())

    def bound(self, size_bytes: int) -> list[Measured]:
        """The rate-distortion bound, without and with the length. Each query is averaged over draws of the noise."""
        return [
            self._bound(BOUND, size_bytes, False, Scorer.ADC),
            self._bound(BOUND_LENGTH_ONE, size_bytes, True, Scorer.ADC),
            self._bound(BOUND_LENGTH_ONE, size_bytes, True, Scorer.SDC),
        ]

    def _bound(self, label: str, size_bytes: int, length_one: bool, scorer: Scorer) -> Measured:
        symmetric = scorer is Scorer.SDC
        found = search_at_bound(self.documents, self.collection.queries, size_bytes, DEPTH, length_one, symmetric)
        detail = f"{8 * size_bytes} bits"
        draws = [self._measured(label, Kind.BOUND, scorer, size_bytes, size_bytes, detail, rows) for rows in found]
        return replace(
            draws[0],
            recall_10=np.mean([draw.recall_10 for draw in draws], axis=0),
            recall_100=np.mean([draw.recall_100 for draw in draws], axis=0),
            ndcg=np.mean([draw.ndcg for draw in draws], axis=0),
        )

    def _measured(
        self,
        method: str,
        kind: Kind,
        scorer: Scorer | None,
        size_bytes: int,
        used_bytes: float,
        detail: str,
        found: Rows,
    ) -> Measured:
        recall_10, recall_100 = recall_per_query(found, self._truth, 10), recall_per_query(found, self._truth, DEPTH)
        ndcg = ndcg_per_query(found, self.collection.judgments or {})[0]
        return Measured(method, kind, scorer, size_bytes, used_bytes, detail, recall_10, recall_100, ndcg)


def summarize(measured: Sequence[Measured]) -> tuple[Row, ...]:
    """The rows of the table, sorted by size and kind, codes before baselines; inside a kind they keep their order.

    One of `measured` must be that of plain floats, and all must have the same queries.
    """
    floats = next(one for one in measured if one.kind is Kind.FLOAT)
    recall, judged = Bootstrap(len(floats.recall_10)), len(floats.ndcg)
    ndcg = Bootstrap(judged) if judged else None
    rows = []
    for one in measured:
        leader = _leader(measured, one) if one.kind in (Kind.BASELINE, Kind.BOUND) else None
        rows.append(
            Row(
                one.method,
                one.kind,
                one.scorer,
                one.size_bytes,
                one.used_bytes,
                one.detail,
                recall.mean(one.recall_10),
                recall.mean(one.recall_100),
                ndcg.mean(one.ndcg) if ndcg else None,
                ndcg.ratio(one.ndcg, floats.ndcg) if ndcg else None,
                recall.difference(leader.recall_10, one.recall_10) if leader else None,
                one.disk_bytes,
            )
        )
    order = list(Kind)
    return tuple(sorted(rows, key=lambda row: (row.size_bytes, order.index(row.kind))))


def _leader(measured: Sequence[Measured], rival: Measured) -> Measured | None:
    """The best code of the same size, not rescored; against a bound, the best with the same scorer, which has its own
    bound."""
    codes = [one for one in measured if one.kind is Kind.CODE and one.size_bytes == rival.size_bytes]
    codes = [one for one in codes if not one.disk_bytes]
    if rival.kind is Kind.BOUND:
        codes = [one for one in codes if one.scorer is rival.scorer]
    return max(codes, key=lambda one: float(one.recall_10.mean()), default=None)
