"""The metrics of trained adapters: cells of a table, sentences, and a section of the model card."""

from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import Quality, UpgradeMatrix, paired
from bebr_training.adapters.train import TrainedAdapter, TrainedAdapters

COLUMNS = ("adapter", "default", "recall@10", "recall gain", "nDCG@10", "nDCG gain")
RIGHT = COLUMNS[2:]
NOTE = (
    "recall@10 is the share of the querying model's 10 float neighbors, on held-out texts: it shows how well the "
    "rankings of that model are preserved. Only relevance judgments (nDCG@10) show whether users find more. Gains are "
    "over the other model's own queries, with 95% intervals."
)


def heading(old: str, forward: TrainedAdapter) -> str:
    """What the table is about."""
    matrix = forward.matrix
    return (
        f"{old}: queries of the new model on its codes, linear adapter: {forward.method} "
        f"({len(matrix.new_to_old[matrix.kind].recall):,} held-out texts, {matrix.points:,} points)"
    )


def cells(forward: TrainedAdapter, kind: AdapterKind) -> list[str]:
    """One row of the table, in the order of COLUMNS."""
    default = "yes" if kind is forward.files.default else ""
    return [_name(forward, kind), default, *_measured(forward.matrix, kind), *_measured(forward.judged, kind)]


def backward_summary(backward: TrainedAdapter) -> str:
    """A sentence on queries of the old model."""
    matrix = backward.judged or backward.matrix
    value = float(matrix.values(matrix.new_to_old[backward.files.default]).mean())
    metric = "nDCG@10" if matrix.judged else "held-out recall@10"
    return (
        f"Backward, from queries of the old model to codes of the new one: {_name(backward, backward.files.default)} "
        f"adapter ({backward.method}), {metric} {value:.3f}"
    )


def verdict(forward: TrainedAdapter) -> str:
    """A sentence: whether new queries find more on old codes than old queries do, as far as that was measured."""
    if (judged := forward.judged) is None or judged.gain is None:
        return "There are no relevance judgments: give --pairs, or evaluate on your own queries before you promote"
    if judged.gain.low > 0:
        return "New queries find more on old codes than old queries do"
    if judged.gain.high < 0:
        return "New queries find less on old codes than old queries do: re-encode points before you promote"
    return "New queries find about as much on old codes as old queries do, on these relevance judgments"


def with_section(card: str, old: str, trained: TrainedAdapters) -> str:
    """A model card with a section on `old` at its end, which replaces an earlier one."""
    head = f"## Compatible with {old}\n"
    start = card.find(head)
    if start >= 0:
        end = card.find("\n## ", start)
        card = card[:start] + (card[end + 1 :] if end >= 0 else "")
    forward = trained.forward
    lines = [head, f"{heading(old, forward)}.", "", f"| {' | '.join(COLUMNS)} |", f"|---|---|{'--:|' * len(RIGHT)}"]
    lines += [f"| {' | '.join(cells(forward, kind))} |" for kind in forward.matrix.new_to_old]
    lines += ["", f"{verdict(forward)}. {backward_summary(trained.backward)}.", "", NOTE]
    return f"{card.rstrip()}\n\n" + "\n".join(lines) + "\n"


def _name(trained: TrainedAdapter, kind: AdapterKind) -> str:
    return f"{kind} {trained.files.weight:.1f}" if kind is AdapterKind.WEIGHTED else str(kind)


def _measured(matrix: UpgradeMatrix | None, kind: AdapterKind) -> list[str]:
    """Mean and gain of one kind of adapter; empty cells where nothing was measured."""
    if matrix is None or kind not in matrix.new_to_old:
        return ["", ""]
    values = matrix.values(matrix.new_to_old[kind])
    own: Quality | None = matrix.old_to_old
    if own is None:
        return [f"{values.mean():.3f}", ""]
    gain = paired(values, matrix.values(own))
    return [f"{values.mean():.3f}", f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"]
