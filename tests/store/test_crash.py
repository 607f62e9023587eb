"""kill -9: what was acknowledged is there, and what was not is there whole or not at all."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.servers import ServerKind, running_server
from tests.store.crash_writer import State, read_state, state_after, step_writes
from tests.store.points import UID, commit

from bebr.errors import StoreUnavailable
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore

ROUNDS = 4
ROOT = Path(__file__).parents[2]


def whole_steps(state: State, acknowledged: int) -> int:
    """How many steps the state holds: all acknowledged ones, and perhaps the one under way."""
    for steps in (acknowledged, acknowledged + 1):
        if state == state_after(steps):
            return steps
    raise AssertionError(f"after {acknowledged} acknowledged steps the store holds neither these nor one more")


async def test_a_killed_writer_of_sqlite(tmp_path: Path) -> None:
    chance = random.Random(1)
    steps = 0
    for _ in range(ROUNDS):
        acknowledged = await asyncio.to_thread(_write_until_killed, tmp_path, steps, chance.uniform(0, 0.15))
        store = SqliteStore(tmp_path)
        await store.open()
        steps = whole_steps(await read_state(store), acknowledged)
        await store.close()
    assert steps >= ROUNDS  # each round wrote at least once before it was killed


def _write_until_killed(folder: Path, first_step: int, seconds: float) -> int:
    """Let another process write for a while after its first commit, kill it, and return how far it said it came."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_writer", folder, str(first_step)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
    return int([line for line in lines if line.strip()][-1])


@pytest.mark.parametrize("kind", list(ServerKind))
async def test_a_killed_server(kind: ServerKind) -> None:
    """With `appendfsync always`, which never answers before its file is written."""
    chance = random.Random(2)
    with running_server(kind, appendfsync="always") as server:
        store = RedisStore(server.url, timeout_seconds=60)
        await store.open()
        await store.create(UID, 1)
        steps = 0
        for _ in range(ROUNDS):
            killer = asyncio.get_running_loop().call_later(chance.uniform(0.02, 0.15), server.kill)
            acknowledged = steps
            with pytest.raises(StoreUnavailable):
                while True:
                    await commit(store, 0, step_writes(acknowledged))
                    acknowledged += 1
            killer.cancel()
            server.start()
            steps = whole_steps(await read_state(store), acknowledged)
        await store.close()
