"""What each API key may take: its requests per second, and its turn among the other keys.

Whether a key may do what it asks is decided later (`middleware.auth`). An unknown one has no name here and no limit:
guessing is slowed there.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bebr.errors import Overloaded
from bebr.server.middleware.auth import digest_of, given_key
from bebr.server.middleware.wrong_keys import fingerprint
from bebr.server.team.counts import KeyCounts
from bebr.server.team.team import Team

_KEY_LINE = re.compile(rb"\r\n(?:api-key: ?|authorization: ?bearer +)([!-~]+) *\r\n", re.IGNORECASE)
SETTING = "key_requests_per_s"


@dataclass(slots=True)
class _Bucket:
    """Requests that a key may send at once."""

    left: float
    filled_at: float = 0.0
    """When it was last filled up, in monotonic seconds."""
    taken: int = 0
    """By all workers of the service together, when that was looked at last."""


class KeyLimits:
    """The names of the keys, and what is left to each."""

    def __init__(self, keys: Iterable[str], requests_per_s: int, team: Team | None = None) -> None:
        """requests_per_s: 0 for any number. team: workers that count together."""
        digests = [digest_of(key.encode()) for key in keys]
        self._names = {digest: fingerprint(digest) for digest in digests}
        self._requests_per_s = requests_per_s
        self._buckets = {name: _Bucket(requests_per_s) for name in self._names.values()}
        counts = team is not None and requests_per_s > 0 and bool(self._buckets)
        self._counts = KeyCounts(team, list(self._buckets)) if team is not None and counts else None
        for name, bucket in self._buckets.items():
            bucket.taken = 0 if self._counts is None else self._counts.taken(name)

    def name(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The name of the caller's key; '' where there are no keys, or it has none of them."""
        return self._name_of(given_key(headers)) if self._names else ""

    def name_in(self, head: bytes) -> str:
        """The same, of a head that was not parsed."""
        found = _KEY_LINE.search(head) if self._names else None
        return "" if found is None else self._name_of(found[1])

    def _name_of(self, key: bytes | None) -> str:
        return "" if key is None else self._names.get(digest_of(key), "")

    def take(self, name: str) -> Overloaded | None:
        """Count a request of the key; the refusal where it has sent as many as it may."""
        bucket = self._buckets.get(name)
        if not self._requests_per_s or bucket is None:
            return None
        now, rate = time.monotonic(), self._requests_per_s
        bucket.left = min(rate, bucket.left + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if self._counts is not None:
            taken = self._counts.taken(name)
            bucket.left -= taken - bucket.taken
            bucket.taken = taken
        if bucket.left < 1:
            return Overloaded(
                f"this API key may send {rate} requests per second ({SETTING}); send fewer, or larger batches",
                limit=SETTING,
                max_requests_per_s=rate,
                retry_after_seconds=1,
            )
        bucket.left -= 1
        if self._counts is not None:
            bucket.taken += 1
            self._counts.take(name)
        return None
