"""What every MetadataStore promises of what processes announce: it is there for as long as it is said."""

import pytest
from tests.store.points import MakeStore
from tests.waiting import until

from bebr.core.types import Role
from bebr.errors import InvalidOption, StoreUnavailable
from bebr.store import MetadataStore
from bebr.store.sqlite.store import SqliteStore

LONG = 600.0


async def test_what_is_announced_is_known_to_all(store: MetadataStore, make_store: MakeStore) -> None:
    if isinstance(store, SqliteStore):
        with pytest.raises(InvalidOption, match="redis_url"):
            await store.announce("one", "here", LONG)
        assert await store.announced() == {}
        return
    assert await store.announced() == {}
    assert await store.announce("one", "here {1}", LONG) == {"one": "here {1}"}
    assert await store.announce("two", "there é", LONG) == {"one": "here {1}", "two": "there é"}
    assert await store.announce("one", "moved", LONG) == {"one": "moved", "two": "there é"}
    other = make_store()
    await other.open()
    assert await other.announced() == {"one": "moved", "two": "there é"}
    assert await other.announce("one", "", LONG) == {"two": "there é"}
    await other.close()
    assert await store.announced() == {"two": "there é"}


async def test_what_is_not_renewed_is_over(store: MetadataStore) -> None:
    if isinstance(store, SqliteStore):
        assert await store.announced() == {}
        return
    await store.announce("long", "x", LONG)
    await store.announce("short", "y", 0.05)

    async def left() -> bool:
        return await store.announced() == {"long": "x"}

    assert await until(left, "what was said for a moment is over")
    assert await store.announce("short", "z", LONG) == {"long": "x", "short": "z"}


async def test_a_follower_only_listens(store: MetadataStore, make_store: MakeStore) -> None:
    if isinstance(store, SqliteStore):
        assert await store.announced() == {}
        return
    await store.announce("one", "here", LONG)
    follower = make_store(role=Role.FOLLOWER)
    await follower.open()
    with pytest.raises(StoreUnavailable, match="only follows"):
        await follower.announce("two", "here", LONG)
    assert await follower.announced() == {"one": "here"}
    await follower.close()


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101])
async def test_a_name_that_is_none_is_refused(store: MetadataStore, name: str) -> None:
    with pytest.raises(InvalidOption):
        await store.announce(name, "x", LONG)
