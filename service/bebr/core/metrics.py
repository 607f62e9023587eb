"""What a ranking is worth against relevance judgments (qrels): nDCG and recall of one query."""

from collections.abc import Mapping, Sequence

import numpy as np

Grades = Mapping[int, float]
"""Row of a document -> its grade. A document without a grade, or with one of 0 or less, is not relevant."""


def ndcg(found: Sequence[int], grades: Grades, k: int = 10) -> float:
    """nDCG@k of found rows, best first, with the grades as gains (Järvelin and Kekäläinen, 2002).

    The discount of rank r, counted from 1, is 1 / log2(1 + r). The ideal ranking holds all relevant documents; without
    one the result is 0.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array(sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k])
    if not len(ideal):
        return 0.0
    gains = np.array([max(grades.get(row, 0.0), 0.0) for row in found[:k]])
    return float(gains @ discounts[: len(gains)]) / float(ideal @ discounts[: len(ideal)])


def recall(found: Sequence[int], grades: Grades, k: int = 10) -> float:
    """Recall@k of found rows: relevant ones among the first k, as a share of the k or fewer that there are.

    0 where no document is relevant.
    """
    relevant = {row for row, grade in grades.items() if grade > 0}
    return len(relevant.intersection(found[:k])) / min(k, len(relevant)) if relevant else 0.0
