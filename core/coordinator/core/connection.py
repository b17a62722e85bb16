"""The way to Redis: one `Partition` handle per partition, one helper that runs a step.

redis-py's own retries are off: a blind retry of a command that is not idempotent makes two entries. Steps are idempotent,
so `Partition.run` sends them again itself, for as long as the deployment's patience lasts.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

import redis.asyncio
from redis.asyncio.client import PubSub
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from coordinator.core import keys, logging, names
from coordinator.core.clock import RedisTime, SystemClock
from coordinator.core.duty import repeat, stop
from coordinator.core.errors import InvalidInput, MemoryPressure, Misconfigured, RedisUnavailable
from coordinator.core.scripts import Script
from coordinator.core.settings import Settings
from coordinator.core.topology import LINGER_SECONDS, LOOKUP_SECONDS, Address, Source, sources

_T = TypeVar("_T")
BLOCK_MS: Final = 2000
"""How long a blocking read blocks; its connection's socket timeout is well above that."""
_BLOCKING_TIMEOUT: Final = BLOCK_MS / 1000 + 3
_FOLLOW_SECONDS: Final = 1.0
_AWAY: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    InvalidResponse,
    asyncio.IncompleteReadError,
)
_MOVED: Final = re.compile(r"(?:^|[ -])(?:READONLY|MOVED|ASK|CLUSTERDOWN|MASTERDOWN) |non local key in a cluster node")
_BUSY: Final = re.compile(r"(?:^|[ -])(?:LOADING|TRYAGAIN|NOREPLICAS|BUSY|MISCONF|UNBLOCKED) ")


class Partition:
    """One partition and the connections to the Redis that holds it."""

    def __init__(
        self, index: int, source: Source, *, patience: float = 1.5, client_name: str = "", key: str | None = None
    ) -> None:
        self.index = index
        self.base = keys.base(index)
        self.source = source
        self.patience = patience
        self.time = RedisTime()
        self._client_name = client_name
        self._tells_fsync = False
        self._apart: weakref.WeakSet[Any] = weakref.WeakSet()
        # redis-py's types speak of sync and async, bytes and text at once; replies here are bytes, and are cast where read.
        self.redis: Any = source.client(key or self.base, client_name, None)

    async def run(self, script: Script, args: Sequence[str | bytes | int | float]) -> Any:
        """Run one step. Sent again after a lost connection, up to the patience; then `RedisUnavailable`."""

        call = self.redis.connection_pool.call

        async def send() -> Any:
            try:
                return await call("EVALSHA", script.sha, 1, self.base, *args)
            except NoScriptError:
                return await call("EVAL", script.source, 1, self.base, *args)

        return await self.patiently(send)

    async def run_confirmed(
        self, script: Script, args: Sequence[str | bytes | int | float], durability: str, wait: float
    ) -> tuple[Any, bool]:
        """Run one step, and ask on the same connection whether it is as durable as wanted, within `wait` seconds.

        Returns the step's reply and whether that was confirmed. Raises `InvalidInput` where the server can't tell.
        """
        ms = int(wait * 1000)
        confirm = ("WAIT", 1, ms) if durability == "replicated" else ("WAITAOF", 1, 0, ms)

        async def send() -> tuple[Any, bool]:
            if durability == "fsync" and not self._tells_fsync:
                await self._check_fsync()
            # EVAL, for nothing can be sent in between after a NOSCRIPT: WAIT must follow the write on its connection.
            step = ("EVAL", script.source, 1, self.base, *args)
            # Since Redis 7.2 WAIT waits for what its own connection wrote, and a step that was done before writes nothing.
            mark = ("SET", f"{self.base}none", "1", "PX", 1)
            (reply, marked, confirmed), server = await self.redis.connection_pool.calls(step, mark, confirm)
            for answer in (reply, marked, confirmed):
                if isinstance(answer, Exception):
                    self._tells_fsync = False
                    raise answer
            # One that was replaced may still have a replica, and both will forget what they confirm.
            if await self.source.master(LINGER_SECONDS) not in (None, server):
                raise RedisConnectionError("another server is the master now")
            return reply, (confirmed[0] if isinstance(confirmed, list) else confirmed) >= 1

        return await self.patiently(send, longest=wait + self.patience)

    async def _check_fsync(self) -> None:
        """Raise `InvalidInput`, before anything is written, where the server can't say what is on disk."""
        try:
            await self.redis.execute_command("WAITAOF", 1, 0, 1)
        except ResponseError as error:
            if "unknown command" in str(error) or "appendonly" in str(error):
                raise InvalidInput(
                    f"The durability 'fsync' needs Redis 7.2 or later with an append-only file; this Redis says: {error}"
                ) from error
            raise
        self._tells_fsync = True

    async def patiently(self, send: Callable[[], Awaitable[_T]], *, longest: float | None = None) -> _T:
        """Await `send()`, again after each failure that passes, up to the patience. `send` must be safe to repeat.

        `longest`: seconds that one try may take; half of the patience, if not given.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        pause = 0.01
        while True:
            try:
                # Half of the patience for one try: a half-open connection must leave time for a second, fresh one.
                async with asyncio.timeout(longest or self.patience / 2):
                    return await send()
            except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
                raise Misconfigured(f"Redis does not let us in: {error}. Check the URL's user and password.") from error
            except _AWAY as error:
                trouble: Exception = error
                await self._drop_connections()
            except ResponseError as error:
                if _full(error):
                    raise MemoryPressure from error
                elsewhere = _elsewhere(error)
                if not elsewhere and not _passing(error):
                    raise
                trouble = error
                if elsewhere:
                    await self._drop_connections()
            if loop.time() + pause > deadline:
                raise RedisUnavailable(str(trouble) or type(trouble).__name__) from trouble
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.2)

    def blocking(self) -> redis.asyncio.Redis:
        """A client for blocking reads, with connections apart from all others; the caller closes it."""
        client = self.source.client(self.base, f"{self._client_name}-blocking", _BLOCKING_TIMEOUT)
        self._apart.add(client.connection_pool)
        return client

    def pubsub(self) -> PubSub:
        """A subscriber with a connection of its own; the caller closes it."""
        pubsub = self.source.client(self.base, f"{self._client_name}-pubsub", None).pubsub()
        self._apart.add(pubsub.connection_pool)
        return pubsub

    async def follow(self, master: Address) -> None:
        """Leave any server that is not the master any more, even if it still says so.

        One that hung and was replaced goes on as a master for some eight seconds, until a sentinel makes it a replica; and
        whoever had nothing to ask of it while it hung does not know.
        """
        pools = [self.redis.connection_pool, *self._apart]
        if not all(pool.leads_only_to(master) for pool in pools):
            await self._drop_connections()

    async def _drop_connections(self) -> None:
        """Where one connection fails the others are no better: whoever reads from one finds it closed, and opens another.

        After a failover a blocking read would else go on at the old master, which answers, and has nothing.
        """
        await self.redis.connection_pool.drop()
        for pool in list(self._apart):
            pool.hang_up()
            await pool.drop()


def _elsewhere(error: ResponseError) -> bool:
    """This server does not hold the data (any more, or yet): another one does, or will.

    redis-py has classes for what a server says; what a script was told inside comes as text.

    While a slot is moved, its old node says ASK for every step, because the key that a step is called with never exists.
    That is not followed, so that no step ever runs on half of the data; the partition is away until the slot has moved.
    """
    return isinstance(error, (ReadOnlyError, AskError, ClusterDownError)) or _MOVED.search(str(error)) is not None


def _passing(error: ResponseError) -> bool:
    """This server can't do it now, and soon will."""
    return isinstance(error, TryAgainError) or _BUSY.search(str(error)) is not None


def _full(error: ResponseError) -> bool:
    return isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error)


class Connections:
    """All partitions of a deployment. Open with `Connections.open`, close with `close` or `async with`."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self.partitions = tuple(partitions)
        self._following: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings, *, client_name: str, wait: float = 0.0) -> Self:
        """Connect and check that this Redis is ours: its schema version and its number of partitions.

        `wait`: for how many seconds to go on trying while Redis is away. Raises `Misconfigured`, `RedisUnavailable`.
        """
        self = cls.unchecked(settings, client_name=client_name)
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            try:
                await self.check()
                following = repeat(self.follow_masters, SystemClock(), logging.get("masters"))
                self._following = asyncio.create_task(following, name="follow masters")
                return self
            except RedisUnavailable:
                if asyncio.get_running_loop().time() >= deadline:
                    await self.close()
                    raise
                await asyncio.sleep(0.1)
            except BaseException:
                await self.close()
                raise

    @classmethod
    def unchecked(cls, settings: Settings, *, client_name: str) -> Self:
        """The same without a look at the Redis, which may be away, or not ours. Raises `Misconfigured`: the URL is wrong."""
        found = sources(settings.redis_url)
        return cls(
            [
                Partition(p, found[p % len(found)], patience=settings.redis_patience, client_name=client_name)
                for p in range(settings.partitions)
            ]
        )

    async def meta(self) -> dict[str, str]:
        """What this Redis says about the coordinator in it: schema and partitions; empty if none has used it yet."""
        first = self.partitions[0]
        meta = Partition(0, first.source, key=keys.META, patience=first.patience, client_name="coordinator-meta")
        try:
            stored = await meta.patiently(partial(meta.redis.hgetall, keys.META))
        finally:
            await meta.redis.aclose()
        return {name.decode(): value.decode() for name, value in stored.items()}

    async def check(self) -> None:
        """Raise `Misconfigured` unless schema version and number of partitions are ours; claim a new Redis."""
        want = {b"schema": str(keys.SCHEMA_VERSION), b"partitions": str(len(self.partitions))}
        for first in self.one_per_source():
            # In a cluster the key may live on another node than any partition does.
            meta = Partition(0, first.source, key=keys.META, patience=first.patience, client_name="coordinator-meta")
            try:
                await meta.patiently(partial(_check, meta.redis, want))
            finally:
                await meta.redis.aclose()

    def one_per_source(self) -> list[Partition]:
        """One partition of each server (a whole cluster counts as one)."""
        return list({id(p.source): p for p in reversed(self.partitions)}.values())

    def of_model(self, model: str) -> Partition:
        """The partition that a model's jobs live in."""
        return self.partitions[keys.partition_of(model, len(self.partitions))]

    def of_request(self, request_id: str) -> Partition:
        """The partition that a request id names. Raises `NotFound` for an id that can't be one of ours."""
        return self.partitions[names.parse_request_id(request_id, len(self.partitions)).partition]

    async def follow_masters(self) -> float:
        """One round: ask who the masters are, and leave all others. Returns the seconds to rest."""
        for first in self.one_per_source():
            try:
                master = await first.source.master(LOOKUP_SECONDS)
            except (RedisError, OSError) as error:
                raise RedisUnavailable(str(error)) from error
            for partition in self.partitions:
                if master is not None and partition.source is first.source:
                    await partition.follow(master)
        return _FOLLOW_SECONDS

    async def close(self) -> None:
        if self._following is not None:
            await stop([self._following])
        for partition in self.partitions:
            await partition.redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _check(redis: Any, want: dict[bytes, str]) -> None:
    for name, value in want.items():
        stored = await redis.hget(keys.META, name)
        if stored is None:
            await redis.hsetnx(keys.META, name, value)
            stored = await redis.hget(keys.META, name)
        if stored is not None and stored.decode() != value:
            raise Misconfigured(
                f"This Redis holds a coordinator with {name.decode()} {stored.decode()}, but this process expects {value}. "
                "Use a process of the matching version and settings, or another Redis."
            )
