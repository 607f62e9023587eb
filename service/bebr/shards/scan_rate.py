"""How long a scan takes: measured by the scans themselves, so that a machine is known as it is."""

FIRST_SECONDS_PER_BYTE = 1 / 8e9
"""Before the first scan."""
LEAST_BYTES = 2**20
"""Scans of less say more of what is around them."""
SHARE = 0.1
"""How far one scan moves the rate towards its own."""
CORRECTION = 2.0
"""How far a scan may be above the rate: one that took many times as long had its memory taken away meanwhile."""
MEASURED = 8
"""One of so many scans is measured: to read the clock of a thread costs as much as the scan of a small collection."""
BATCH_SHARE = 0.5
"""What a query takes among others, of what it takes alone."""


class ScanRate:
    """Seconds for each byte of codes that one query scans."""

    def __init__(self) -> None:
        self.seconds_per_byte = FIRST_SECONDS_PER_BYTE
        self._scans = 0

    def seconds(self, size_bytes: int, queries: int) -> float:
        """How long a scan of so many bytes takes, about."""
        shares = 1 + (queries - 1) * BATCH_SHARE
        return size_bytes * shares * self.seconds_per_byte

    def is_next(self, size_bytes: int) -> bool:
        """Whether the scan that begins now is to be measured. size_bytes: of all its queries."""
        if size_bytes < LEAST_BYTES:
            return False
        self._scans += 1
        return self._scans % MEASURED == 1

    def note(self, size_bytes: int, queries: int, seconds: float) -> None:
        """A scan took so long, of processor time: how long it waited for one says nothing of the next."""
        if size_bytes * queries < LEAST_BYTES:
            return
        now = self.seconds_per_byte
        found = seconds / (size_bytes * (1 + (queries - 1) * BATCH_SHARE))
        self.seconds_per_byte += SHARE * (min(found, now * CORRECTION) - now)
