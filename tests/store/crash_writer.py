"""A writer to be killed: commits numbered steps, one after the other, and says how many were acknowledged.

`state_after(n)` says what a store must hold after the first n steps, so that whoever survives can compare.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.store.points import UID, commit, metadata, put, whole_feed

from bebr.store import DeleteWrite, MetadataStore, Write
from bebr.store.sqlite.store import SqliteStore

GROUPS, GROUP_SIZE = 7, 20
State = dict[str, tuple[int, str | None]]
"""id -> (seq, metadata; None for a tombstone)"""


def step_writes(step: int) -> Sequence[Write]:
    """One commit: it rewrites one group of ids, and every third time deletes another."""
    upsert = put(*group_ids(step), seed=step)
    return [upsert, DeleteWrite(group_ids(step - 1))] if step % 3 == 0 else [upsert]


def group_ids(step: int) -> list[str]:
    return [f"{step % GROUPS}-{number}" for number in range(GROUP_SIZE)]


def state_after(steps: int) -> State:
    """The feed after the first `steps` steps, worked out with a plain dict."""
    state: State = {}
    seq = 0
    for step in range(steps):
        for write in step_writes(step):
            for id in write.ids:
                if isinstance(write, DeleteWrite):
                    if state.get(id, (0, None))[1] is None:
                        continue
                    seq, state[id] = seq + 1, (seq + 1, None)
                else:
                    seq, state[id] = seq + 1, (seq + 1, metadata(id, step))
    return state


async def read_state(store: MetadataStore) -> State:
    """The same from a store; its parts must agree with each other."""
    feed = await whole_feed(store)
    state = {entry.id: (entry.seq, entry.metadata) for entry in feed}
    points = await store.fetch(UID, 0, list(state))
    assert [point and (point.seq, point.metadata) for point in points] == [
        (seq, text) if text is not None else None for seq, text in state.values()
    ]
    counters = await store.counters(UID, 0)
    assert counters.points == sum(text is not None for _, text in state.values())
    assert counters.last_seq == max((seq for seq, _ in state.values()), default=0)
    return state


async def main(folder: Path, first_step: int) -> None:
    store = SqliteStore(folder)
    await store.open()
    await store.create(UID, 1)
    step = first_step
    while True:
        await commit(store, 0, step_writes(step))
        step += 1
        print(step, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
