"""What became of the code versions of a collection: evaluations, promotions, the last backfill. The store keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bebr.core.types import JobState
from bebr.encoding import AdapterKind
from bebr.encoding.adapters.quality import AdapterQuality, Interval, MeanQuality, UpgradeSummary


@dataclass(frozen=True, kw_only=True)
class Evaluation(UpgradeSummary):
    """What was measured of a version before its promotion."""

    active: str
    """Id of the version that was active."""
    version: str
    """Id of the version that was evaluated."""
    at: float
    """Seconds since 1970."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Evaluation":
        """Inverse of `dataclasses.asdict`."""
        cells = {name: document[name] for name in ("old_to_old", "new_to_old", "new_to_new")}
        adapters = {AdapterKind(kind): cell for kind, cell in document["adapters"].items()}
        return cls(
            **{
                **document,
                **{name: None if cell is None else MeanQuality(**cell) for name, cell in cells.items()},
                "adapter": AdapterKind(document["adapter"]),
                "mixed": {share: MeanQuality(**cell) for share, cell in document["mixed"].items()},
                "adapters": {
                    kind: AdapterQuality(**{**cell, "gain": _interval(cell["gain"])}) for kind, cell in adapters.items()
                },
                "gain": _interval(document["gain"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version became active."""

    from_version: str
    """Id of the version that was active before."""
    to_version: str
    at: float
    """Seconds since 1970."""
    forced: bool
    """Whether the gate would not have let it pass."""
    adapter: AdapterKind | None
    """Kind of adapter from its queries to the codes of the version before; None: the adapter's default."""
    gain: Interval | None
    """What was measured before; None where nothing was."""
    min_gain: float
    """What the gate demanded."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """The version before the last promotion became active again."""

    from_version: str
    to_version: str
    at: float
    """Seconds since 1970."""


VersionEvent = Promotion | Rollback


@dataclass(frozen=True, slots=True)
class Backfill:
    """The last backfill: points of other versions are re-encoded as one version."""

    job: str
    """Id of its job."""
    version: str
    """Id of the version that points are re-encoded as."""
    rate: float
    """Points per second at most."""
    total: int
    """How many points had other codes when it began."""
    created_at: float
    """Seconds since 1970."""
    state: JobState
    finished_at: float | None = None
    """Seconds since 1970."""
    skipped: int = 0
    """Points that hold no text, as of when it last stopped."""
    applied: int = 0
    """Points that were re-encoded, as of when it last stopped."""
    detail: str | None = None
    """Why it failed."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Backfill":
        """Inverse of `dataclasses.asdict`."""
        return cls(**{**document, "state": JobState(document["state"])})


@dataclass(frozen=True, slots=True)
class Upgrades:
    """What became of the versions that were attached."""

    previous: int | None = None
    """Number of the version that was active before the last promotion, while a rollback is possible."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """By fingerprint of another embedding model: kind of adapter from queries of the active version to its codes, where
    one was chosen."""
    previous_adapters: Mapping[str, str] = field(default_factory=dict)
    """The same of the version before."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """The last one of each pair of versions, by `evaluation_key`."""
    history: tuple[VersionEvent, ...] = ()
    """Newest last."""
    backfill: Backfill | None = None

    def evaluation(self, active: str, version: str) -> Evaluation | None:
        """The last evaluation of a version against one that was active."""
        return self.evaluations.get(evaluation_key(active, version))

    def with_evaluation(self, evaluation: Evaluation, most: int) -> "Upgrades":
        """With one more evaluation; only the newest `most` are kept."""
        key = evaluation_key(evaluation.active, evaluation.version)
        evaluations = {**self.evaluations, key: evaluation}
        return replace(self, evaluations=dict(list(evaluations.items())[-most:]))

    def to_document(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {
            "previous": self.previous,
            "adapters": dict(self.adapters),
            "previous_adapters": dict(self.previous_adapters),
            "evaluations": {key: asdict(evaluation) for key, evaluation in self.evaluations.items()},
            "history": [_event_document(event) for event in self.history],
            "backfill": None if self.backfill is None else asdict(self.backfill),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Upgrades":
        """Inverse of `to_document`."""
        document = _in_todays_words(document)
        backfill = document["backfill"]
        return cls(
            previous=document["previous"],
            adapters=document["adapters"],
            previous_adapters=document["previous_adapters"],
            evaluations={key: Evaluation.from_document(entry) for key, entry in document["evaluations"].items()},
            history=tuple(_event_of(entry) for entry in document["history"]),
            backfill=None if backfill is None else Backfill.from_document(backfill),
        )


def evaluation_key(active: str, version: str) -> str:
    """Names a pair of versions by their ids."""
    return f"{active} -> {version}"


def _interval(document: Mapping[str, float] | None) -> Interval | None:
    return None if document is None else Interval(**document)


def _event_document(event: VersionEvent) -> dict[str, Any]:
    document: dict[str, Any] = {
        "event": "promote" if isinstance(event, Promotion) else "rollback",
        "from": event.from_version,
        "to": event.to_version,
        "at": event.at,
    }
    if isinstance(event, Promotion):
        document |= {
            "forced": event.forced,
            "adapter": event.adapter,
            "gain": None if event.gain is None else asdict(event.gain),
            "min_gain": event.min_gain,
        }
    return document


def _event_of(document: Mapping[str, Any]) -> VersionEvent:
    if document["event"] == "rollback":
        return Rollback(document["from"], document["to"], document["at"])
    adapter = document["adapter"]
    return Promotion(
        from_version=document["from"],
        to_version=document["to"],
        at=document["at"],
        forced=document["forced"],
        adapter=None if adapter is None else AdapterKind(adapter),
        gain=_interval(document["gain"]),
        min_gain=document["min_gain"],
    )


def _in_todays_words(upgrades: Mapping[str, Any]) -> Mapping[str, Any]:
    """Older documents say `ways` for adapters, and `adapter` for the linear kind."""
    if "ways" not in upgrades:
        return upgrades
    keys = {"way": "adapter", "ways": "adapters", "previous_ways": "previous_adapters"}

    def kind(value: str | None) -> str | None:
        return "linear" if value == "adapter" else value

    def renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
        return {keys.get(key, key): kind(value) if key == "way" else value for key, value in entry.items()}

    def evaluation(entry: Mapping[str, Any]) -> dict[str, Any]:
        return renamed(entry) | {"adapters": {kind(key): cell for key, cell in entry["ways"].items()}}

    return renamed(upgrades) | {
        "adapters": {model: kind(value) for model, value in upgrades["ways"].items()},
        "previous_adapters": {model: kind(value) for model, value in upgrades["previous_ways"].items()},
        "evaluations": {pair: evaluation(entry) for pair, entry in upgrades["evaluations"].items()},
        "history": [renamed(event) for event in upgrades["history"]],
    }
