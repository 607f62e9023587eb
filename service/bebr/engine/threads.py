"""The thread pools of one engine."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from bebr.shards import ShardThreads

SCAN_COORDINATORS = 32
"""Threads that prepare and scan for searches."""
BACKGROUND_NICENESS = 5
"""Of threads that work for jobs: others get the processor first, yet it is never so long away from one that holds the
interpreter, or that a job stands still."""


class Threads:
    """Each lane has threads of its own, so that none of them waits for another."""

    def __init__(self, search_threads: int, background_threads: int) -> None:
        self.scan_threads = search_threads
        self.scanners = ThreadPoolExecutor(search_threads, "scan")
        """Help with searches that scan very much."""
        self.coordinators = ThreadPoolExecutor(SCAN_COORDINATORS, "search")
        """Prepare searches and scan."""
        self.query_encoding = ThreadPoolExecutor(1, "encode-query")
        """Embeds query texts."""
        self.written_texts = ThreadPoolExecutor(1, "embed-write")
        """Embeds texts of points."""
        self.encoding = ThreadPoolExecutor(2, "encode")
        """Checks and encodes what is written; turns JSON and bytes into values and back."""
        self.embedding = ThreadPoolExecutor(1, "embed")
        """Embeds texts whose embeddings were requested."""
        self.background_threads = background_threads
        self.background = ThreadPoolExecutor(background_threads, "background", _yield_to_others)
        """Embeds and encodes for jobs and evaluations."""
        self.checks = ThreadPoolExecutor(1, "check", _yield_to_others)
        """Answers searches once more, to check them."""
        self.maintenance = ThreadPoolExecutor(1, "maintain")
        """Seals and merges segments."""

    @property
    def of_shards(self) -> ShardThreads:
        """Those that the shards use."""
        return ShardThreads(self.scanners, self.scan_threads, self.coordinators, self.maintenance)

    async def shut_down(self) -> None:
        """Wait for what is running: coordinators before the scanners that they hand work to."""
        for pool in (
            self.coordinators,
            self.scanners,
            self.query_encoding,
            self.written_texts,
            self.encoding,
            self.embedding,
            self.background,
            self.checks,
            self.maintenance,
        ):
            await asyncio.to_thread(pool.shutdown)


def _yield_to_others() -> None:
    """Give the calling thread the lowest priority, where the system has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
