"""Commits as calls of `commit.lua`. Pure.

Neighbouring commits of a shard without receipts are joined in one call: nothing in them can be refused for its own
sake, so one outcome represents all. A commit with a receipt has a call of its own, for its conflict must stop only it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bebr.core.operations import (
    MAX_COMMIT_BYTES,
    MAX_COMMIT_OPERATIONS,
    Commit,
    CommitOutcome,
    Committed,
    check_commit,
)
from bebr.store.redis.client import Argument
from bebr.store.redis.values import write_arguments


@dataclass(slots=True)
class CommitCall:
    """One call of the script."""

    places: list[int] = field(default_factory=list)
    """Which of the commits it carries."""
    lengths: list[int] = field(default_factory=list)
    """How many writes each of them has."""
    arguments: list[Argument] = field(default_factory=list)
    """All writes, as the script reads them."""
    receipts: list[str] = field(default_factory=list)
    """Keys of their receipts."""
    shrinks: bool = True
    """Whether it is to pass where there is no room for more points."""
    operations: int = 0
    size_bytes: int = 0

    @property
    def writes(self) -> int:
        return sum(self.lengths)

    def takes(self, commit: Commit) -> bool:
        """Whether the commit may join those that are in the call."""
        return (
            not self.receipts
            and not _receipts(commit)
            and self.shrinks == commit.shrinks
            and self.operations + commit.operations <= MAX_COMMIT_OPERATIONS
            and self.size_bytes + commit.size_bytes <= MAX_COMMIT_BYTES
        )

    def add(self, place: int, commit: Commit, arguments: list[Argument]) -> None:
        self.places.append(place)
        self.lengths.append(len(commit.writes))
        self.arguments += arguments
        self.receipts += _receipts(commit)
        self.shrinks = self.shrinks and commit.shrinks
        self.operations += commit.operations
        self.size_bytes += commit.size_bytes

    def split(self, committed: Sequence[Committed]) -> dict[int, CommitOutcome]:
        """What the writes did -> the outcome of each commit, by its place."""
        outcomes: dict[int, CommitOutcome] = {}
        start = 0
        for place, length in zip(self.places, self.lengths, strict=True):
            outcomes[place] = list(committed[start : start + length])
            start += length
        return outcomes


def commit_calls(
    commits: Sequence[Commit], *, first_receipt: int, refused: dict[int, CommitOutcome]
) -> dict[int, list[CommitCall]]:
    """The calls for each shard, in order. What cannot be sent is put into `refused`, by its place.

    first_receipt: number of the first receipt among the keys of a call.
    """
    calls: dict[int, list[CommitCall]] = {}
    for place, commit in enumerate(commits):
        try:
            check_commit(commit)
            arguments = _arguments(commit, first_receipt)
        except Exception as error:  # also a text that is no Unicode
            refused[place] = error
            continue
        of_shard = calls.setdefault(commit.shard, [])
        if not of_shard or not of_shard[-1].takes(commit):
            of_shard.append(CommitCall())
        of_shard[-1].add(place, commit, arguments)
    return calls


def _arguments(commit: Commit, first_receipt: int) -> list[Argument]:
    arguments: list[Argument] = []
    receipt = first_receipt
    for write in commit.writes:
        arguments += write_arguments(write, receipt if write.receipt else 0)
        receipt += write.receipt is not None
    return arguments


def _receipts(commit: Commit) -> list[str]:
    return [write.receipt.key for write in commit.writes if write.receipt]
