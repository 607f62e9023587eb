"""A URL that names several nodes of a cluster, the first of which is down."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.cluster import running_cluster
from tests.servers import Server, ServerKind, free_port
from tests.store.points import UID, commit, put
from tests.waiting import until

from bebr.errors import StoreUnavailable
from bebr.store.redis.addresses import addresses_of
from bebr.store.redis.keys import Keys
from bebr.store.redis.news import News
from bebr.store.redis.store import RedisStore


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("redis://a:1/0", ["redis://a:1/0"]),
        ("redis://u:p@a:1,b:2", ["redis://u:p@a:1", "redis://u:p@b:2"]),
        ("rediss://:p%2C@a,b/0?x=1", ["rediss://:p%2C@a/0?x=1", "rediss://:p%2C@b/0?x=1"]),
        ("redis://u:p,q@a:1", ["redis://u:p,q@a:1"]),
        ("unix:///run/a,b.sock", ["unix:///run/a,b.sock"]),
    ],
)
def test_each_node_has_a_url_of_its_own(url: str, addresses: list[str]) -> None:
    assert addresses_of(url) == addresses


async def test_a_store_opens_by_the_nodes_that_answer() -> None:
    with running_cluster() as cluster:
        first, second = cluster.masters[0], cluster.masters[1]
        url = f"redis://127.0.0.1:{first.port},127.0.0.1:{second.port}"
        cluster.fail_over(0)
        lost = RedisStore(first.url, prefix="p", timeout_seconds=20)
        with pytest.raises(StoreUnavailable):
            await lost.open()
        await lost.close()
        store = RedisStore(url, prefix="p", timeout_seconds=20, ack_replicas=0)
        await store.open()
        heard: dict[str, object] = {}
        news = News(url, Keys("p").news)
        news.on_commit = heard.update
        await news.start()
        try:
            await store.create(UID, 1)
            await commit(store, 0, [put("a")])
            assert (await store.counters(UID, 0)).last_seq == 1
            await until(lambda: heard == {UID: {0: 1}}, "the commit is heard of")
        finally:
            await news.stop()
            await store.close()


async def test_servers_of_no_cluster_are_refused() -> None:
    port = free_port()
    with TemporaryDirectory(prefix="bebr-valkey-") as folder:
        server = Server(ServerKind.VALKEY, Path(folder), options=("--port", str(port)))
        server.start()
        store = RedisStore(f"redis://127.0.0.1:{port},127.0.0.1:{port}", prefix="p", timeout_seconds=20)
        try:
            with pytest.raises(StoreUnavailable, match="not part of a cluster"):
                await store.open()
        finally:
            await store.close()
            server.stop()
