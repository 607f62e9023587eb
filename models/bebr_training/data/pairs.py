"""Queries, documents and relevance judgments for the supervised stage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.errors import InvalidOption
from bebr_training.data.collections import Collection
from bebr_training.search.metrics import Judgments

MIN_QUERIES = 20
"""Fewer queries with a relevant document are too few to learn from."""


@dataclass(frozen=True)
class Pairs:
    """Queries and documents, embedded by one model, with relevance judgments."""

    queries: NDArray[np.float32]
    """(queries, dims), unit rows."""
    documents: NDArray[np.float32]
    """(rows, dims), unit rows."""
    judgments: Judgments

    @classmethod
    def of_collection(cls, collection: Collection) -> "Pairs":
        """The queries of a collection that have a relevant document. Raises InvalidOption when they are too few."""
        judged = {
            query: grades
            for query, grades in (collection.judgments or {}).items()
            if any(g > 0 for g in grades.values())
        }
        if len(judged) < MIN_QUERIES:
            raise InvalidOption(
                f"'{collection.name}' has {len(judged)} queries with a relevant document; expected a qrels.tsv with at "
                f"least {MIN_QUERIES}",
                option="pairs",
            )
        return cls(collection.queries, collection.documents, judged)
