"""What every MetadataStore promises of leases: one holder at a time, and a token that only grows."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.points import MakeStore
from tests.waiting import until

from bebr.core.types import Role
from bebr.errors import InvalidOption, StoreUnavailable
from bebr.store import HeldLease, MetadataStore
from bebr.store.redis.store import RedisStore
from bebr.store.sqlite.store import SqliteStore
from bebr.store.sqlite.task_leases import TaskLeases

LONG = 600.0


async def test_a_lease_has_one_holder_until_it_is_released(store: MetadataStore) -> None:
    token = await store.take_lease("fit:a", "one", LONG)
    assert token is not None
    assert await store.take_lease("fit:a", "two", LONG) is None
    assert await store.take_lease("fit:a", "one", LONG) == token, "it is taken already"
    assert await store.take_lease("fit:b", "two", LONG) is not None
    assert [(lease.name, lease.holder) for lease in await store.leases()] == [("fit:a", "one"), ("fit:b", "two")]
    assert await store.renew_lease("fit:a", token, LONG)
    assert not await store.renew_lease("fit:a", token + 1, LONG) and not await store.renew_lease("none", 1, LONG)
    await store.release_lease("fit:a", token + 1)
    assert await store.take_lease("fit:a", "two", LONG) is None
    await store.release_lease("fit:a", token)
    second = await store.take_lease("fit:a", "two", LONG)
    assert second is not None and second > token
    assert not await store.renew_lease("fit:a", token, LONG), "the first holder has lost it"
    await store.release_lease("fit:a", token)
    assert HeldLease("fit:a", "two", second) in await store.leases()


async def test_of_many_that_take_a_lease_one_has_it(store: MetadataStore) -> None:
    tokens = []
    for _ in range(5):
        taken = await asyncio.gather(*(store.take_lease("task", f"holder-{number}", LONG) for number in range(10)))
        (token,) = [one for one in taken if one is not None]
        tokens.append(token)
        await store.release_lease("task", token)
    assert tokens == sorted(set(tokens))


async def test_tokens_grow_over_a_restart(make_store: MakeStore) -> None:
    tokens = []
    for _ in range(3):
        store = make_store()
        await store.open()
        token = await store.take_lease("task", "me", LONG)
        assert token is not None
        tokens.append(token)
        await store.release_lease("task", token)
        await store.close()
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("name", ["", "a/b", "..", "../x", "a b", "x" * 101, "é"])
async def test_a_name_that_could_leave_its_place_is_refused(store: MetadataStore, name: str) -> None:
    with pytest.raises(InvalidOption, match="name of a lease"):
        await store.take_lease(name, "me", LONG)


async def test_a_follower_takes_none_and_sees_who_has_them(store: MetadataStore, make_store: MakeStore) -> None:
    token = await store.take_lease("task", "me", LONG)
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()
    with pytest.raises(StoreUnavailable, match="only follows"):
        await follower.take_lease("other", "me", LONG)
    assert token is not None and await follower.leases() == [HeldLease("task", "me", token)]
    await follower.close()


async def test_a_lease_ends_where_it_is_not_renewed(store: MetadataStore) -> None:
    """On Redis; with SQLite its process must die."""
    if isinstance(store, RedisStore):
        token = await store.take_lease("task", "one", 0.05)

        async def taken() -> int | None:
            return await store.take_lease("task", "two", LONG)

        second = await until(taken, "the lease expires")
        assert token is not None and second is not None and second > token
        assert not await store.renew_lease("task", token, LONG)


def test_a_lease_of_a_folder_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bebr.store.sqlite.task_leases import TaskLeases\n"
        "leases = TaskLeases(Path(sys.argv[1])); print(leases.take('task', 'child'), flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "1\n"
        leases = TaskLeases(tmp_path)
        assert leases.take("task", "me") is None and leases.held() == [HeldLease("task", "child", 1)]
        child.kill()
        child.wait()
        assert leases.held() == [] and leases.take("task", "me") == 2
        leases.release_all()


async def test_a_store_that_closes_gives_back_its_leases_of_the_folder(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    assert await store.take_lease("task", "me", LONG) == 1
    await store.close()
    await store.open()
    assert await store.leases() == [] and await store.take_lease("task", "other", LONG) == 2
    await store.close()
