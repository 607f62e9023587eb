"""The gate of a promotion: what a version must have been measured to gain before it becomes active."""

from dataclasses import asdict, dataclass

from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import Interval
from bebr.engine.collections.upgrades import Evaluation
from bebr.engine.collections.version import Version
from bebr.errors import Conflict


@dataclass(frozen=True, slots=True)
class Gate:
    """What the last evaluation must have shown."""

    min_gain: float = 0.0
    """Least mean difference of new->old over old->old, in the measure of the evaluation."""


def gain_of(evaluation: Evaluation | None, kind: AdapterKind | None) -> Interval | None:
    """The gain that was measured for the kind of adapter that is to be used; None: for the best one."""
    if evaluation is None or kind is None:
        return None if evaluation is None else evaluation.gain
    measured = evaluation.adapters.get(kind)
    return None if measured is None else measured.gain


def check_gate(
    version: Version, active: Version, gate: Gate, *, evaluation: Evaluation | None, gain: Interval | None
) -> None:
    """Raise Conflict, with what was measured, where the gate does not let a version take the place of the active one.

    evaluation: the last one of the two. gain: what it says of the adapter that is to be used.
    """
    if evaluation is None:
        raise Conflict(
            f"'{version.id}' was not evaluated against '{active.id}'; evaluate it first, or force the promotion",
            version=version.id,
        )
    if gain is None:
        raise Conflict(
            "the evaluation has no gain of that adapter over old->old; evaluate all adapters, with queries that the "
            "old model can embed, or force the promotion",
            evaluation=asdict(evaluation),
        )
    if gain.mean < gate.min_gain:
        raise Conflict(
            f"'{version.id}' does not pass the gate: its queries gain {gain.mean:+.4f} [{gain.low:+.4f}, "
            f"{gain.high:+.4f}] {evaluation.measure} over '{active.id}' on existing codes, and "
            f"{gate.min_gain:+.4f} is required; force the promotion if you know better",
            min_gain=gate.min_gain,
            evaluation=asdict(evaluation),
        )
