"""Data that training never sees: rows that serve as queries, and queries with relevance judgments."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bebr.core.arrays import Floats
from bebr.core.scoring import Scorer
from bebr.encoding import BinarizerFiles
from bebr.encoding.quantization.recurrent import Recurrent
from bebr.errors import InvalidEmbeddings
from bebr_training.data.pairs import Pairs
from bebr_training.search.coded import Candidate, CodedDocuments
from bebr_training.search.metrics import ndcg_per_query, recall_per_query
from bebr_training.search.ranking import Rows, dot_search

QUERIES = 1_000
"""Maximum number of rows that are held out as queries."""
SEARCHED = 20_000
"""Maximum number of training rows that they search."""
K = 10
HELD_OUT_SHARE = 0.2
"""Share of the queries with relevance judgments that is held out."""


class HasFiles(Protocol):
    """A model that is measured by its graph."""

    def files(self) -> BinarizerFiles: ...


class HeldOut:
    """Splits unit rows (rows, embedding_dims): a tenth (at most 1,000) are queries, the rest is for training."""

    def __init__(self, rows: Floats, seed: int = 0) -> None:
        queries, training = split(len(rows), rows.shape[1], seed)
        self.queries, self.training = rows[queries], rows[training]
        self._searched = self.training[:SEARCHED]
        self._truth = dot_search(self._searched)(self.queries, K)

    def recall(self, model: Recurrent | HasFiles | None) -> float:
        """Recall@10 by adc of the queries on training rows. None, for an untrained model, gives 0."""
        if model is None:
            return 0.0
        if isinstance(model, Recurrent):
            found = dot_search(model.quantized_values(self._searched), model.project)(self.queries, K)
        else:
            coded = CodedDocuments(Candidate.of_files("model", model.files(), self.queries.shape[1]), self._searched)
            found = coded.search(Scorer.ADC)(self.queries, K)
        return float(recall_per_query(found, self._truth, K).mean())


def split(rows: int, dims: int, seed: int) -> tuple[Rows, Rows]:
    """(row numbers of the queries, of the training rows), each ascending. Raises InvalidEmbeddings for too few rows."""
    order = np.random.default_rng(seed).permutation(rows)
    count, least = min(QUERIES, rows // 10), max(dims, 10 * K)
    if count < 1 or rows - count < least:
        raise InvalidEmbeddings(
            f"{rows} rows are too few to train on: expected at least {least * 10 // 9 + 1}", rows=rows
        )
    return np.sort(order[:count]), np.sort(order[count:])


class HeldOutPairs:
    """Splits queries with relevance judgments: four fifths are for training, one fifth decides when to stop."""

    def __init__(self, pairs: Pairs, seed: int = 0) -> None:
        order = np.random.default_rng(seed).permutation(sorted(pairs.judgments))
        count = max(1, round(HELD_OUT_SHARE * len(order)))
        self.documents = pairs.documents
        held, taught = np.sort(order[:count]), np.sort(order[count:])
        self._queries = pairs.queries[held]
        self._judgments = {place: pairs.judgments[query] for place, query in enumerate(held.tolist())}
        self.training_queries = pairs.queries[taught]
        self._relevant = [
            np.array([row for row, grade in pairs.judgments[query].items() if grade > 0], np.int64)
            for query in taught.tolist()
        ]
        self._hard = dot_search(pairs.documents)(self.training_queries, min(50, len(pairs.documents)))

    def points(self, binarizer: Recurrent) -> Floats:
        """The grid points (documents, dims) float32 of all documents."""
        levels = binarizer.quantize(self.documents)[0]
        points: Floats = levels - (binarizer.halves - np.float32(0.5))
        return points

    def ndcg(self, binarizer: Recurrent) -> float:
        """nDCG@10 by adc of the held-out queries."""
        found = dot_search(binarizer.quantized_values(self.documents), binarizer.project)(
            self._queries, min(K, len(self.documents))
        )
        return float(ndcg_per_query(found, self._judgments)[0].mean())

    def batch(self, size: int, hard: int, rng: np.random.Generator) -> tuple[Rows, Rows, NDArray[np.bool_]]:
        """A random batch: queries (size,), documents (n,), and which document is relevant to which query (size, n).

        The documents are one relevant document of each query and `hard` that floats rank high, some of them relevant.
        """
        able = [place for place, relevant in enumerate(self._relevant) if len(relevant)]
        chosen = np.array(rng.choice(able, min(size, len(able)), replace=False), np.int64)
        relevant = [int(rng.choice(self._relevant[place])) for place in chosen]
        width = self._hard.shape[1]
        negatives = np.take_along_axis(self._hard[chosen], rng.integers(0, width, (len(chosen), min(hard, width))), 1)
        documents = np.unique(np.concatenate([np.array(relevant, np.int64), negatives.ravel()]))
        positive = np.stack([np.isin(documents, self._relevant[place]) for place in chosen])
        return chosen, documents, positive
