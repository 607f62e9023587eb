"""The losses of training: scores (rows, rows) or (queries, documents) -> a scalar."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

OUT = -1e9
"""The score of what a softmax must ignore."""


def distillation(scores: Tensor, cosines: Tensor, same: Tensor, temperature: float) -> Tensor:
    """KL divergence of the codes' softmax from that of the float cosines, averaged over the rows.

    scores, cosines (rows, rows); same (rows, rows) bool: pairs of the same item, which are ignored.
    """
    teacher = functional.log_softmax((cosines / temperature).masked_fill(same, OUT), dim=1)
    student = functional.log_softmax((scores / temperature).masked_fill(same, OUT), dim=1)
    return (teacher.exp() * (teacher - student)).masked_fill(same, 0).sum(dim=1).mean()


def contrastive(scores: Tensor, positive: Tensor, temperature: float, hardest: int | None = None) -> Tensor:
    """InfoNCE (van den Oord et al., 2018): -log softmax of each query's positives, averaged over the queries.

    scores (queries, candidates); positive (queries, candidates) bool, at least one per row. Where there are several,
    each is compared with the negatives alone. hardest: number of negatives with the highest scores that count, as in
    BEBR.
    """
    logits = scores / temperature
    negatives = logits.masked_fill(positive, OUT)
    if hardest is not None and hardest < negatives.shape[1]:
        negatives = negatives.topk(hardest, dim=1).values
    against = negatives.logsumexp(dim=1, keepdim=True)
    losses = torch.logaddexp(logits, against) - logits
    return (losses.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1)).mean()


@dataclass
class Queue:
    """Codes of earlier batches as further negatives (He et al., 2020)."""

    size: int
    """Maximum number of codes."""
    rows: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    """(at most size, n): the codes, newest first."""
    items: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """(at most size,): the item of each code."""

    def extend(self, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """rows (n, d) of this batch, with gradient, and their items (n,) -> the same, followed by the queue."""
        if not self.size:
            return rows, items
        both = (torch.cat([rows, self.rows]), torch.cat([items, self.items])) if len(self.items) else (rows, items)
        self.rows, self.items = both[0].detach()[: self.size], both[1][: self.size]
        return both
