"""The thread pools of one engine."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from bebr.shards import ShardThreads

SCAN_COORDINATORS = 32
"""Threads that wait for shard scans; they do no work of their own."""


class Threads:
    """Queries, writes and embeddings have pools of their own, so that none of them waits for another."""

    def __init__(self, search_threads: int) -> None:
        self.scanners = ThreadPoolExecutor(search_threads, "scan")
        """Scan shards."""
        self.coordinators = ThreadPoolExecutor(SCAN_COORDINATORS, "search")
        """Prepare searches and wait for the scanners."""
        self.encoding = ThreadPoolExecutor(2, "encode")
        """Embed and encode what is written, evaluated or asked for as embeddings."""
        self.query_encoding = ThreadPoolExecutor(1, "encode-query")
        """Embeds query texts."""
        self.maintenance = ThreadPoolExecutor(1, "maintain")
        """Seals and merges segments."""

    @property
    def of_shards(self) -> ShardThreads:
        """Those that the shards use."""
        return ShardThreads(self.scanners, self.coordinators, self.maintenance)

    async def shut_down(self) -> None:
        """Wait for what is running: coordinators before the scanners that they hand work to."""
        for pool in (self.coordinators, self.scanners, self.encoding, self.query_encoding, self.maintenance):
            await asyncio.to_thread(pool.shutdown)
