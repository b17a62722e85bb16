"""Waiting for outcomes: any number of waiters on one subscription per process and Redis.

A waiter costs no connection: it leaves the process's channel name in the `waiters` hash, in the same step that reads the
record, and whoever writes the outcome publishes it there. Pub/sub forgets what was sent while a connection was down, so
after each reconnect, and about once a second, those who still wait are looked up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final

from redis.exceptions import RedisError

from coordinator.core import keys, logging, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import CoordinatorError, NotFound, RedisUnavailable
from coordinator.core.reading import Reader
from coordinator.core.results import Result, result_of
from coordinator.core.steps import Found

_RECHECK_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 5.0
"""When no message has come for so long, we ask whether anybody is there; the answer may take as long again."""
_INTEREST_MS: Final = 10_000
"""How long a waiter's entry counts; renewed by each re-check, and swept by the janitor once it is over."""
_LOOKUPS_PER_CALL: Final = 256
_FIRST_PAUSE: Final = 0.05


class Waiting:
    """The waiters of one process. Start `run` as a task; then any number of `result` calls."""

    def __init__(self, connections: Connections) -> None:
        self.channel = keys.notify(os.urandom(8).hex())
        """Where this process is told."""
        self._connections = connections
        self._waiters: dict[str, list[asyncio.Future[Found]]] = {}
        self._curious = {partition: Reader(partition) for partition in connections.partitions}
        self._interested = {p: Reader(p, self.channel, _INTEREST_MS) for p in connections.partitions}
        self._log = logging.get("waiting")

    async def run(self) -> None:
        """Listen, until cancelled. Survives the loss of any connection."""
        async with asyncio.TaskGroup() as group:
            for partition in self._connections.one_per_source():
                group.create_task(self._listen(partition))
            group.create_task(self._recheck_for_ever())

    async def result(self, request_id: str, wait: float = 0.0) -> Result:
        """The job's result; if it is not final yet, wait up to `wait` seconds for that, and return what holds then.

        Raises `NotFound`, `RedisUnavailable`.
        """
        partition = self._connections.of_request(request_id)
        if wait <= 0:
            return await self._now(partition, request_id)
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(request_id, [])
        waiters.append(future)
        try:
            found = await self._interested[partition].read(request_id)
            if found is None:
                raise _not_found(request_id)
            result = result_of(request_id, found)
            if result.final:
                return result
            try:
                async with asyncio.timeout(wait):
                    return await self._complete(partition, request_id, await future)
            except TimeoutError:
                return await self._now(partition, request_id)
        finally:
            waiters.remove(future)
            if not waiters and self._waiters.get(request_id) is waiters:
                del self._waiters[request_id]

    async def _now(self, partition: Partition, request_id: str) -> Result:
        found = await self._curious[partition].read(request_id)
        if found is None:
            raise _not_found(request_id)
        return result_of(request_id, found)

    async def _complete(self, partition: Partition, request_id: str, found: Found) -> Result:
        if b'"output_bytes":' in found.record and found.output is None:
            return await self._now(partition, request_id)
        return result_of(request_id, found)

    def _told(self, request_id: str, found: Found) -> None:
        for future in self._waiters.get(request_id, ()):
            if not future.done():
                future.set_result(found)

    async def _listen(self, partition: Partition) -> None:
        pause = _FIRST_PAUSE
        while True:
            pubsub = partition.pubsub()
            try:
                await pubsub.subscribe(self.channel)
                await self._recheck()
                pause = _FIRST_PAUSE
                asked = False
                while True:
                    message = await pubsub.get_message(timeout=_QUIET_SECONDS)
                    if message is None:
                        # A line that was cut without a word looks just like one on which nothing happens.
                        if asked:
                            raise RedisUnavailable("the subscription does not answer")
                        await pubsub.ping()
                        asked = True
                        continue
                    asked = False
                    if message["type"] == "message":
                        for line in message["data"].split(b"\n"):
                            request_id, _, record = line.partition(b" ")
                            self._told(request_id.decode(), Found(record, False, None))
            except Exception as error:
                if pause == _FIRST_PAUSE:
                    self._log.warning("subscription lost", error=str(error) or type(error).__name__)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py has no types here
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _recheck_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_RECHECK_SECONDS)
            await self._recheck()

    async def _recheck(self) -> None:
        """Look up all who wait: a message may have been missed. Keeps their interest alive as well."""
        by_partition: dict[Partition, list[str]] = {}
        for request_id in self._waiters:
            by_partition.setdefault(self._connections.of_request(request_id), []).append(request_id)
        for partition, ids in by_partition.items():
            for at in range(0, len(ids), _LOOKUPS_PER_CALL):
                some = ids[at : at + _LOOKUPS_PER_CALL]
                try:
                    rows = await steps.read(partition, some, channel=self.channel, wait_ms=_INTEREST_MS)
                except RedisUnavailable:
                    break
                except CoordinatorError as error:
                    self._log.warning("re-check failed", error=str(error))
                    break
                for request_id, found in zip(some, rows, strict=True):
                    if found is not None and result_of(request_id, found).final:
                        self._told(request_id, found)


def _not_found(request_id: str) -> NotFound:
    return NotFound(f"There is no job with the id '{request_id}', or its result was kept for its time and is gone.")
