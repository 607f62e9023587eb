"""A follower of the store whose files another process writes: it reads them, and writes nothing.

What was written since the last checkpoint it takes from the feed. Once there is another checkpoint, its view is made
anew of these files, beside the one that is served: so it holds no more in memory than what is not in files. Segments
that are open already are not opened again. Where the files are damaged, or are of what the store has lost, it begins
with nothing but the feed.
"""

import asyncio

from bebr.core.operations import FeedPage
from bebr.index.shard import Shard
from bebr.shards.follower import Follower


class FilesFollower(Follower):
    """Its `role` is that of a follower."""

    def open(self, fields_change: bool = False) -> None:
        """Map the files that are there; where they are damaged, the shard starts empty and says why.

        Columns are made by whoever writes the files, before this process knows of the fields or after.
        """
        self.shard.open(fields_change=True)

    def close(self, keep: bool) -> None:
        self.shard.forget()

    async def _begin(self) -> tuple[Shard, FeedPage]:
        shard = self.shard
        if shard.is_outrun or self._damage or self._distrusted:
            shard = await asyncio.to_thread(self._open_files)
        page = await self._replay.page_after(shard)
        if self._leads_on(page, shard):
            return shard, page
        self._losses.log(page.history.lost(self.shard.mark))
        if shard is self.shard:
            shard = await asyncio.to_thread(self._open_files)
            page = await self._replay.page_after(shard)
        if not self._leads_on(page, shard):
            shard.clear()
            page = await self._replay.page_after(shard)
        return shard, page

    def _leads_on(self, page: FeedPage, shard: Shard) -> bool:
        """Whether the view is equal to the store once what follows is applied."""
        return not page.history.lost(shard.mark) and not 0 < shard.seq < page.counters.purged_seq

    def _open_files(self) -> Shard:
        """A shard to be filled beside the one that is served."""
        shard = self._new_shard(self.shard.folder)
        shard.open(fields_change=True, before=None if self._damage else self.shard)
        return shard

    async def _serve(self, shard: Shard) -> None:
        self.shard = shard

    def _take_note(self, closed: bool = False) -> None:
        """That is for the process that writes the files."""
