"""How long a model takes for one short text: measured by the texts themselves, so that a machine is known as it is."""

INLINE_SECONDS = 0.001
"""A text that is embedded in less takes no thread: to hand it out and to wake up again would cost about as much."""
FIRST_TEXTS = 16
"""Texts that are measured before any is embedded on the event loop."""
SHARE = 0.1
"""How far one text moves the rate towards its own."""
MEASURED = 8
"""After those one of so many on the event loop is measured: to read the clock of a thread costs as much as a small part
of a model."""
CORRECTION = 2.0
"""How far a text may be above the rate: one that took many times as long had its memory taken away meanwhile."""


class TextRate:
    """Seconds for each token of a text that is embedded alone, of processor time."""

    def __init__(self) -> None:
        self._seconds_per_token = 0.0
        self._texts = 0
        """Measured so far."""
        self._asked = 0

    def is_short(self, tokens: int) -> bool:
        """Whether a text of so many tokens, about, takes so little time that the event loop embeds it."""
        return self._texts >= FIRST_TEXTS and tokens * self._seconds_per_token <= INLINE_SECONDS

    def is_next(self, tokens: int) -> bool:
        """Whether the text of so many tokens that is embedded now is to be measured."""
        self._asked += 1
        return self._asked % MEASURED == 0 or not self.is_short(tokens)

    def note(self, tokens: int, seconds: float) -> None:
        """A text took so long."""
        now, found = self._seconds_per_token, seconds / tokens
        self._seconds_per_token = now + SHARE * (min(found, now * CORRECTION) - now) if self._texts else found
        self._texts += 1
