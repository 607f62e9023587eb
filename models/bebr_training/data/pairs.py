"""Judged pairs for the supervised stage: queries, documents, and which of them belong together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bebr.errors import InvalidOption
from bebr_training.data.collections import Collection
from bebr_training.search.metrics import Judgements

MIN_JUDGED = 20


@dataclass(frozen=True)
class Pairs:
    """queries (queries, dims), documents (rows, dims) float32, unit rows. judgements: query row -> row -> grade."""

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    judgements: Judgements

    @classmethod
    def of_collection(cls, collection: Collection) -> "Pairs":
        """The judgements of a collection. Raises InvalidOption when it has too few to learn from."""
        judged = {
            query: grades
            for query, grades in (collection.judgements or {}).items()
            if any(g > 0 for g in grades.values())
        }
        if len(judged) < MIN_JUDGED:
            raise InvalidOption(
                f"'{collection.name}' has {len(judged)} queries with a relevant document; expected a qrels.tsv with at "
                f"least {MIN_JUDGED}",
                option="pairs",
            )
        return cls(collection.queries, collection.documents, judged)
