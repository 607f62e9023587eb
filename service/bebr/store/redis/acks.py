"""Commits that replicas have before they are acknowledged: a call and `WAIT`, sent together on one connection.

A master tells of a commit before its replicas have it. If it dies then, a replica takes over that never heard of it.
`WAIT` answers once that many replicas have all that its connection wrote, or its time is over.
"""

from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import MovedError, RedisClusterException, ResponseError

from bebr.errors import StoreUnavailable
from bebr.store.redis.failures import FAILURES


async def call_and_wait(redis: Any, key: str, command: Sequence[Any], replicas: int, milliseconds: int) -> Any:
    """What the command answers, once so many replicas have it. Raises StoreUnavailable, whatever `redis` raises.

    key: one of those of the command. A command that was moved to another node is sent there.
    """
    try:
        answer, acks = await _together(redis, key, command, ("WAIT", replicas, milliseconds))
    except (LostConnection, RedisClusterException, OSError):
        await _learn_map(redis, key)
        raise
    if isinstance(answer, MovedError):
        await _learn_map(redis, key)
        answer, acks = await _together(redis, key, command, ("WAIT", replicas, milliseconds))
    for one in (answer, acks):
        if isinstance(one, ResponseError):
            raise one
    if acks < replicas:
        raise StoreUnavailable(
            f"{acks} of {replicas} replicas have the write, so whether it outlives its server is unknown. Bring the "
            "replicas back, or set redis_ack_replicas to how many there are"
        )
    return answer


async def _together(redis: Any, key: str, *commands: Sequence[Any]) -> list[Any]:
    """The answers of commands on one connection; errors of the server in their place."""
    async with _connection(redis, key) as connection:
        answers: list[Any] = []
        await connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers


@asynccontextmanager
async def _connection(redis: Any, key: str) -> Any:
    """One that is not used again where something of it may still come."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        node: Any = redis.get_node_from_key(key)
        connection = node.acquire_connection()
    else:
        connection = await redis.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        if isinstance(redis, RedisCluster):
            node.release(connection)
        else:
            await redis.connection_pool.release(connection)


async def _learn_map(redis: Any, key: str) -> None:
    """Have a cluster's client find out which node has the key now: it does so when a call of its own fails."""
    if isinstance(redis, RedisCluster):
        with suppress(*FAILURES):
            await redis.execute_command("EXISTS", key)
