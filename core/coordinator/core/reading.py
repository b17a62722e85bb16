"""Reading: records looked up one by one, gathered into few calls of the read step, as submissions are.

At most two calls are under way, and they are small: what lies out of line comes with the records.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from coordinator.core import steps
from coordinator.core.connection import Partition
from coordinator.core.errors import RedisUnavailable
from coordinator.core.steps import Found

_CALLS: Final = 2
_PER_CALL: Final = 32


class Reader:
    """The lookups in one partition. With a `channel`, it is told of what is not final yet, for `interest_ms`."""

    def __init__(self, partition: Partition, channel: str = "", interest_ms: int = 0) -> None:
        self._partition = partition
        self._channel = channel
        self._interest_ms = interest_ms
        self._queue: deque[tuple[str, asyncio.Future[Found | None]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def read(self, request_id: str) -> Found | None:
        """The record, None if there is none. Raises `RedisUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found | None] = loop.create_future()
        self._queue.append((request_id, future))
        if not self._scheduled and len(self._calls) < _CALLS:
            self._scheduled = True
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        self._scheduled = False
        while self._queue and len(self._calls) < _CALLS:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _PER_CALL))]
            task = asyncio.get_running_loop().create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._queue:
            self._flush()

    async def _call(self, batch: list[tuple[str, asyncio.Future[Found | None]]]) -> None:
        ids = [request_id for request_id, _ in batch]
        try:
            rows = await steps.read(self._partition, ids, channel=self._channel, wait_ms=self._interest_ms)
        except Exception as error:
            if isinstance(error, RedisUnavailable):
                # Redis was waited for long enough; those behind must not wait as long again, one call after the other.
                batch += self._queue
                self._queue.clear()
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), found in zip(batch, rows, strict=True):
            if not future.done():
                future.set_result(found)
