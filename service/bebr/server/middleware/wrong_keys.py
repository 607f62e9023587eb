"""Guessing of keys: slowed for whoever was wrong too often, and logged."""

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from bebr.errors import Overloaded
from bebr.telemetry import Budget, event

log = logging.getLogger(__name__)

FREE_GUESSES = 10
"""Wrong keys from one address before its keys are checked slowly."""
FORGET_SECONDS = 60.0
"""After this long without a wrong key an address is as any other."""
DELAY_SECONDS = 1.0
MAX_DELAYED = 20
"""Requests of one address that wait to be checked; more are refused unchecked."""
MAX_ADDRESSES = 10_000
LINES_PER_S = 10


@dataclass(slots=True)
class _Guesser:
    wrong: int = 0
    """Wrong keys so far."""
    last: float = 0.0
    """When the last one came."""
    delayed: int = 0
    """Requests that wait."""


class WrongKeys:
    """What is known of the addresses that keys came from. A key that was right is never slowed at its address."""

    def __init__(self) -> None:
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()
        self._known: set[tuple[str, bytes]] = set()
        self._lines = Budget(LINES_PER_S)

    async def delay(self, address: str, digest: bytes) -> None:
        """Wait before this key is compared, if its address guesses. Raises Overloaded when too many wait."""
        guesser = self._guessers.get(_network(address))
        if guesser is None or guesser.wrong < FREE_GUESSES or (address, digest) in self._known:
            return
        if time.monotonic() - guesser.last > FORGET_SECONDS:
            del self._guessers[_network(address)]
            return
        if guesser.delayed >= MAX_DELAYED:
            raise Overloaded("too many wrong API keys came from this address; try again later", retry_after_seconds=5)
        guesser.delayed += 1
        try:
            await asyncio.sleep(DELAY_SECONDS)
        finally:
            guesser.delayed -= 1

    def right(self, address: str, digest: bytes) -> None:
        """This key is one of ours."""
        if len(self._known) >= MAX_ADDRESSES:
            self._known.clear()
        self._known.add((address, digest))

    def wrong(self, address: str, digest: bytes) -> None:
        """It is none of ours."""
        guesser = self._guessers.setdefault(_network(address), _Guesser())
        guesser.wrong += 1
        guesser.last = time.monotonic()
        self._guessers.move_to_end(_network(address))
        if len(self._guessers) > MAX_ADDRESSES:
            self._guessers.popitem(last=False)
        if self._lines.take():
            event(
                log,
                "key refused",
                logging.WARNING,
                client=address,
                key=fingerprint(digest),
                wrong=guesser.wrong,
                skipped=self._lines.skipped(),
            )


def fingerprint(digest: bytes) -> str:
    """What names a key in the log: the start of its SHA-256."""
    return digest.hex()[:8]


def _network(address: str) -> str:
    """An IPv6 caller owns a whole network of addresses."""
    return ":".join(address.split(":")[:4]) if ":" in address else address
