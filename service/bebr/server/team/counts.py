"""Requests of API keys that all workers together have counted: each in a file of its own, which the others read.

Nobody waits for anybody. Where two workers count in the same moment, one of them may let a request more through.
"""

from collections.abc import Sequence

from bebr.core.types import Role
from bebr.server.team.team import Team
from bebr.shards import SharedSeqs, numbers


class KeyCounts:
    """How many requests were counted of each key, ever."""

    def __init__(self, team: Team, names: Sequence[str]) -> None:
        """names: of the keys, in the same order in every worker."""
        self._places = {name: place for place, name in enumerate(names)}
        self._files = [
            SharedSeqs(team.keys_file(number), len(names), Role.PRIMARY if number == team.number else Role.FOLLOWER)
            for number in range(team.count)
        ]
        self._own = self._files[team.number]

    def taken(self, name: str) -> int:
        """By all workers."""
        place = self._places[name]
        return sum(numbers(raw)[place] for file in self._files if (raw := file.read()) is not None)

    def take(self, name: str) -> None:
        """Count a request."""
        place, raw = self._places[name], self._own.read()
        assert raw is not None, "a file that this worker has made"
        self._own.raise_to(place, numbers(raw)[place] + 1)
