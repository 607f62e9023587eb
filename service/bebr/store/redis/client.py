"""RedisClient: one Redis, Valkey or cluster of them, with a deadline for every call and bebr's errors for theirs.

Scripts run on the server and are atomic there. Only reads are repeated after a lost connection: whether a lost write
was applied is not ours to guess.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from bebr.at_once import in_task
from bebr.errors import StoreUnavailable
from bebr.store.redis.acks import call_and_wait
from bebr.store.redis.addresses import addresses_of, first_that_answers
from bebr.store.redis.breaker import Breaker
from bebr.store.redis.failures import FAILURES, is_refusal, refusal, translate

Result = TypeVar("Result")
READ_ATTEMPTS = 2
FLAGS_SINCE = 7
"""First version of Redis whose scripts may run past maxmemory; Valkey says 7 too."""
SLOW_BYTES_PER_SECOND = 4 * 2**20
"""A call that carries data may take as much longer as that takes at this rate."""
LARGE_BYTES = 2**20
"""A call that carries more may be what others wait for: it has its own time."""
WAIT_SHARE = 0.5
"""Of the time that a call has: what its replicas may take."""
Argument = str | bytes | int


class Refused(Exception):
    """A script of ours declined, for a reason that its caller knows: an error reply "BEBR<reason> <detail>"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Script:
    """A Lua file of this package."""

    text: bytes
    digest: str

    @classmethod
    def load(cls, *names: str) -> "Script":
        """The text of these files, one after the other."""
        folder = resources.files("bebr.store.redis").joinpath("lua")
        return cls.of(b"\n".join(folder.joinpath(name).read_bytes() for name in names))

    @classmethod
    def of_shard(cls, name: str) -> "Script":
        """A script whose keys begin with those of a shard."""
        return cls.load("shard.lua", name)

    @classmethod
    def of(cls, text: bytes) -> "Script":
        return cls(text, sha1(text, usedforsecurity=False).hexdigest())

    @cached_property
    def past_maxmemory(self) -> "Script":
        """The same, run although memory is full: for what takes less of it, or hardly any."""
        return self.of(b"#!lua flags=allow-oom\n" + self.text)


ANY_COMMAND = Script.of(b"return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))")


class AnotherServer(LostConnection):
    """It takes connections, so that nothing it could say is waited for."""


class RedisClient:
    """Commands and scripts. Reconnects by itself.

    Every call ends within `timeout_seconds`; one that carries much data has more time in proportion.
    """

    def __init__(self, url: str, timeout_seconds: float, max_connections: int, ack_replicas: int = 1) -> None:
        """ack_replicas: how many must have a change before it is acknowledged, once the server was seen to have any."""
        self._url = url
        self._ack_replicas = ack_replicas
        self._had_replicas = False
        self._timeout_seconds = timeout_seconds
        self._max_connections = max_connections
        self._redis: Any = None
        self._knows_flags = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._breaker = Breaker(self._ping)
        self._servers: set[bytes] = set()
        """Those that have answered: each start of a server has a name of its own."""
        self.trusted = True
        """Off once a server answers that did not before, such as one that was restarted: it may have lost its end."""
        self.verify: Callable[[], Awaitable[None]] | None = None
        """Called before anything is read or written while the server is not trusted. Raises StoreUnavailable."""

    async def open(self) -> None:
        """Connect, and find out whether the server is part of a cluster. Raises StoreUnavailable."""
        # Each call has a deadline of ours. The library's own for a socket would be kept by `asyncio.wait_for`, which in
        # Python 3.11 takes no notice of a deadline that ends while it ends itself: such a call would wait on for ever.
        options = {
            "socket_timeout": None,
            "socket_connect_timeout": self._timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        try:
            url = await first_that_answers(self._url, self._timeout_seconds)
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=self._max_connections,
                timeout=self._timeout_seconds,
                redis_connect_func=self._greet,
                **options,
            )
        except (ValueError, TypeError):  # their texts may hold the password
            raise StoreUnavailable(
                "the address of the Redis server has a part that is not understood; write it as redis://host:6379/0"
            ) from None
        self._redis = Redis.from_pool(pool)
        if (await self.info("cluster")).get("cluster_enabled") == 1:
            await self._redis.aclose()
            self._redis = RedisCluster.from_url(url, max_connections=self._max_connections, **options)
        elif len(addresses_of(self._url)) > 1:
            raise StoreUnavailable(
                "the Redis server is not part of a cluster, and its address names several; name one server, or nodes "
                "of one cluster"
            )
        version = str((await self.info("server")).get("redis_version", "0"))
        self._knows_flags = int(version.split(".")[0]) >= FLAGS_SINCE

    async def close(self) -> None:
        """Let no new call begin, wait for those under way, and disconnect."""
        await self._breaker.stop()
        if self._redis is not None:
            redis, self._redis = self._redis, None
            self._idle.clear()
            if self._calls:
                await self._idle.wait()
            await redis.aclose()

    async def masters_info(self, section: str) -> list[dict[str, Any]]:
        """The same of each master."""
        if not isinstance(self._redis, RedisCluster):
            return [await self.info(section)]
        answers: dict[str, dict[str, Any]] = await self._call(
            lambda redis: redis.info(section, target_nodes=RedisCluster.PRIMARIES), READ_ATTEMPTS
        )
        return list(answers.values()) if all(isinstance(one, dict) for one in answers.values()) else [answers]

    def saw_replicas(self, count: int) -> None:
        """The server has so many: from now on it is taken to have some."""
        self._had_replicas = self._had_replicas or count > 0

    @property
    def _acks(self) -> int:
        """How many replicas must have a change."""
        return self._ack_replicas if self._had_replicas else 0

    async def info(self, section: str) -> dict[str, Any]:
        """One section of what the server says about itself."""
        answer: dict[str, Any] = await self._call(lambda redis: redis.info(section), READ_ATTEMPTS)
        return answer

    async def _greet(self, connection: Any) -> None:
        """Of each new connection: who answers there?"""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            name = re.search(rb"run_id:(\w+)", await connection.read_response())
        except ResponseError:  # some services do not say
            return
        if name is not None and name[1] not in self._servers:
            is_first = not self._servers
            self._servers = {name[1]}
            if not is_first:
                self.trusted = False
                raise AnotherServer("another server answers, or the same one after a restart")

    async def peek(self, *command: Argument) -> Any:
        """`read` for `verify` itself."""
        return await self._call(lambda redis: redis.execute_command(*command), READ_ATTEMPTS, check=False)

    async def read(self, *command: Argument) -> Any:
        """Run a command that changes nothing; repeated once when the connection was lost."""
        return await self._call(lambda redis: redis.execute_command(*command), READ_ATTEMPTS)

    async def write(self, *command: Argument) -> Any:
        """Run a command that may change something. After StoreUnavailable its outcome is unknown."""
        return await self._call(lambda redis: redis.execute_command(*command), 1)

    async def write_small(self, name: str, key: str, *arguments: Argument, check: bool = True) -> Any:
        """`write` of a command on one key that also passes where memory is full. check: as for `run`."""
        return await self.run(ANY_COMMAND, [key], [name, *arguments], changes=True, check=check, past_maxmemory=True)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        changes: bool,
        size_bytes: int = 0,
        check: bool = True,
        past_maxmemory: bool = False,
    ) -> Any:
        """Run a script; all keys lie in one slot.

        changes: it is not to be repeated. size_bytes: of the data that it carries, where that is much. check: only on a
        server that is trusted. past_maxmemory: although memory is full, on servers that know this.
        """
        if past_maxmemory and self._knows_flags:
            script = script.past_maxmemory

        async def evaluate(redis: Any) -> Any:
            if changes and self._acks:
                return await self._evaluate_and_wait(redis, script, keys, arguments)
            try:
                return await redis.evalsha(script.digest, len(keys), *keys, *arguments)
            except NoScriptError:  # first use, or the server was restarted; the server remembers it from now on
                return await redis.eval(script.text, len(keys), *keys, *arguments)

        return await self._call(evaluate, 1 if changes else READ_ATTEMPTS, size_bytes, check)

    async def _evaluate_and_wait(
        self, redis: Any, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        rest = (len(keys), *keys, *arguments)
        limits = self._acks, round(self._timeout_seconds * 1000 * WAIT_SHARE)
        try:
            return await call_and_wait(redis, keys[0], ("EVALSHA", script.digest, *rest), *limits)
        except NoScriptError:
            return await call_and_wait(redis, keys[0], ("EVAL", script.text, *rest), *limits)

    async def _call(
        self, operation: Callable[[Any], Awaitable[Result]], attempts: int, size_bytes: int = 0, check: bool = True
    ) -> Result:
        redis = self._redis
        if redis is None:
            raise StoreUnavailable("the store is not open")
        self._breaker.check()
        self._calls += 1
        await in_task()
        deadline = asyncio.timeout(self._deadline_seconds(size_bytes))
        if size_bytes < LARGE_BYTES:  # what carries much data may be what the others wait for
            self._breaker.waiting.add(deadline)
        try:
            async with deadline:
                result = await self._attempt(operation, redis, attempts, check)
            self._breaker.works()
            return result
        except (TimeoutError, RedisTimeout) as error:
            why = f"Redis did not answer within {self._deadline_seconds(size_bytes):g} s"
            self._breaker.hangs(why)
            raise StoreUnavailable(why) from error
        except FAILURES as error:
            if isinstance(error, ResponseError) and str(error).startswith("BEBR"):
                raise Refused(*str(error).split(" ", 1)) from None
            translated = translate(error)
            if isinstance(translated, StoreUnavailable):
                self._breaker.fails(translated.detail)
            raise translated from error
        finally:
            self._breaker.waiting.discard(deadline)
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _attempt(
        self, operation: Callable[[Any], Awaitable[Result]], redis: Any, attempts: int, check: bool
    ) -> Result:
        while True:
            attempts -= 1
            if check and not self.trusted and self.verify is not None:
                await self.verify()
            try:
                return await operation(redis)
            except LostConnection as error:
                if attempts:
                    continue
                if not is_refusal(error) and not isinstance(error, AnotherServer) and (why := await refusal(redis)):
                    raise ResponseError(why) from error
                raise

    async def _ping(self) -> None:
        redis = self._redis
        await (redis.ping(target_nodes=RedisCluster.PRIMARIES) if isinstance(redis, RedisCluster) else redis.ping())

    def _deadline_seconds(self, size_bytes: int) -> float:
        return self._timeout_seconds + size_bytes / SLOW_BYTES_PER_SECOND
