"""A master of a cluster dies whose replica lags behind: what that takes back is told to whoever had it."""

import re
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.cluster import Cluster, running_cluster
from tests.servers import Server, ServerKind, running_server
from tests.store.points import UID, answers, commit, put
from tests.store.torn_redis import View, read_whole
from tests.waiting import until

from bebr.core.types import Role
from bebr.errors import StoreUnavailable
from bebr.store.redis.store import RedisStore

REFUSED = "0 of 1 replicas|not answer"
"""The second where this machine is so slow that the call's own time was over first."""


async def test_a_follower_is_told_of_what_a_failover_took_back() -> None:
    """It followed to seq 90, the replica stood at 50, and 60 other commits brought that to 110: nothing else tells."""
    with running_cluster() as cluster:
        writer, other = (RedisStore(cluster.url, prefix="p", timeout_seconds=20, ack_replicas=0) for _ in range(2))
        await writer.open()
        await other.open()
        await writer.create(UID, 1)
        follower, view = RedisStore(cluster.url, prefix="p", timeout_seconds=20, role=Role.FOLLOWER), View()
        await follower.open()
        for number in range(50):
            await commit(writer, 0, [put(f"a{number}")])
        place = cluster.of_key(f"{{p:{UID}:0}}:info")
        await until(partial(in_step, cluster, place), "the replica has all")
        before = await writer.history(UID, 0)
        cluster.cut_off(place)
        for number in range(40):
            await commit(writer, 0, [put(f"gone{number}")])
        await view.catch_up(follower)
        assert view.mark.seq == 90 and len(view.points) == 90
        cluster.fail_over(place)
        for store in (other, follower, writer):
            await until(partial(answers, store), "the store answers again")
        for number in range(60):
            await commit(other, 0, [put(f"b{number}")])
        assert (await other.counters(UID, 0)).last_seq == 110
        await view.catch_up(follower)
        found = await read_whole(other, [])
        assert view.points == found and len(found) == 110 and view.rebuilds == 1
        (committed,) = await commit(writer, 0, [put("c")])
        assert committed.epoch is not None and before.after(committed.epoch, committed.first_seq - 1) is None
        for store in (writer, other, follower):
            await store.close()


def in_step(cluster: Cluster, place: int) -> bool:
    told = [node.command("INFO", "replication") for node in (cluster.masters[place], cluster.replicas[place])]
    offsets = [one.split(b"master_repl_offset:")[1].split(b"\r\n")[0] for one in told]
    return offsets[0] == offsets[1]


async def test_what_was_acknowledged_outlives_a_master_whose_replica_lags() -> None:
    """The replica must have a commit before it is acknowledged; one that it has not is refused, its outcome unknown."""
    with running_cluster() as cluster:
        store = RedisStore(cluster.url, prefix="p", timeout_seconds=60)
        await store.open()
        await store.create(UID, 1)
        place = cluster.of_key(f"{{p:{UID}:0}}:info")
        acknowledged = []
        for number in range(40):
            if number == 30:
                cluster.cut_off(place)
                store._client._timeout_seconds = 1
            try:
                await commit(store, 0, [put(f"p{number}")])
            except StoreUnavailable as error:
                assert number >= 30 and re.search(REFUSED, error.detail)
                if number == 32:
                    break
            else:
                acknowledged.append(f"p{number}")
        assert len(acknowledged) == 30
        store._client._timeout_seconds = 60
        cluster.fail_over(place)
        await until(partial(answers, store), "the store answers again")
        found = await read_whole(store, [])
        assert set(acknowledged) <= set(found)
        await store.close()


async def test_replicas_are_waited_for_once_there_were_some() -> None:
    with running_server(ServerKind.VALKEY) as master, TemporaryDirectory(prefix="bebr-replica-") as folder:
        replica = Server(ServerKind.VALKEY, Path(folder), options=("--replicaof", "127.0.0.1", "1"))
        alone = RedisStore(master.url, prefix="p", timeout_seconds=60)
        await alone.open()
        await alone.create(UID, 1)
        await commit(alone, 0, [put("a")])
        port = master.listen()
        replica.start()
        try:
            replica.command("REPLICAOF", "127.0.0.1", str(port))
            await until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"), "it is in step")
            await commit(alone, 0, [put("b")])
            assert b"connected_slaves:1" in master.command("INFO", "replication")
            replica.kill()
            alone._client._timeout_seconds = 1
            for id in "cd":
                with pytest.raises(StoreUnavailable, match=REFUSED):
                    await commit(alone, 0, [put(id)])
            with pytest.raises(StoreUnavailable, match=REFUSED):
                await alone.put_document("k", "n", {})
            never = RedisStore(master.url, prefix="p", timeout_seconds=60, ack_replicas=0)
            await never.open()
            await commit(never, 0, [put("e")])
            await never.close()
        finally:
            if replica.runs:
                replica.kill()
            await alone.close()
