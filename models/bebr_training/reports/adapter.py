"""Words for what compatible training measured: cells of a table, sentences, and a section of the model card."""

from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import Quality, UpgradeMatrix, paired
from bebr_training.adapters.train import Trained, TrainedCompatibility

COLUMNS = ("adapter", "default", "recall@10", "gain", "nDCG@10 judged", "gain judged")
RIGHT = COLUMNS[2:]
NOTE = (
    "recall@10: of the querying model's 10 float neighbours, on held-out texts, so a gain there says how far its "
    "rankings come through; whether users find more only judged queries say. Gains are over the other model's own "
    "queries, with 95 % intervals."
)


def heading(old: str, forward: Trained) -> str:
    matrix = forward.matrix
    return (
        f"{old}: queries of the new model on its codes, adapter: {forward.method} "
        f"({len(matrix.new_to_old[matrix.kind].recall):,} held-out texts, {matrix.points:,} points)"
    )


def cells(forward: Trained, kind: AdapterKind) -> list[str]:
    """One row of the table, as COLUMNS has it."""
    default = "yes" if kind is forward.files.default else ""
    return [_name(forward, kind), default, *_measured(forward.matrix, kind), *_measured(forward.judged, kind)]


def way_back(backward: Trained) -> str:
    matrix = backward.judged or backward.matrix
    value = float(matrix.values(matrix.new_to_old[backward.files.default]).mean())
    measure = "nDCG@10" if matrix.judged else "held-out recall@10"
    return (
        f"Back, from queries of the old model to codes of the new one: {_name(backward, backward.files.default)}, "
        f"adapter {backward.method}, {measure} {value:.3f}"
    )


def verdict(forward: Trained) -> str:
    """A sentence: whether new queries on old codes are better than old ones, as far as that is known."""
    if (judged := forward.judged) is None or judged.gain is None:
        return "Nothing is judged: give --pairs, or measure on queries of your own before new queries search old codes"
    if judged.gain.low > 0:
        return "New queries find more on old codes than old queries do"
    if judged.gain.high < 0:
        return "New queries find less on old codes than old queries do: re-encode points before new queries search them"
    return "New queries find as much on old codes as old queries do, as far as these judgements tell"


def with_section(card: str, old: str, trained: TrainedCompatibility) -> str:
    """A model card with the section on `old` at its end; one that it had before is gone."""
    head = f"## Compatible with {old}\n"
    start = card.find(head)
    if start >= 0:
        end = card.find("\n## ", start)
        card = card[:start] + (card[end + 1 :] if end >= 0 else "")
    forward = trained.forward
    lines = [head, f"{heading(old, forward)}.", "", f"| {' | '.join(COLUMNS)} |", f"|---|---|{'--:|' * len(RIGHT)}"]
    lines += [f"| {' | '.join(cells(forward, kind))} |" for kind in forward.matrix.new_to_old]
    lines += ["", f"{verdict(forward)}. {way_back(trained.backward)}.", "", NOTE]
    return f"{card.rstrip()}\n\n" + "\n".join(lines) + "\n"


def _name(trained: Trained, kind: AdapterKind) -> str:
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
