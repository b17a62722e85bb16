"""Marks: what a worker notes in Redis about jobs that wait at its gate.

Should the worker die, all that it was working on is blamed. A job that was delivered and not started is innocent: its
delivery count in the inbox's pending list is 0, and the reclaim step blames only what has a higher one. The same call
begins the job's time anew, for the time limit of a job must not pass while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from coordinator.core import keys, logging
from coordinator.core.connection import Partition
from coordinator.core.errors import CoordinatorError
from coordinator.worker.deliveries import Delivery

_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Marks:
    """The marks in one inbox. `outstanding`: all deliveries from it, by entry id. `lost`: told of those not ours any more."""

    def __init__(
        self,
        partition: Partition,
        worker: str,
        model: str,
        outstanding: Mapping[bytes, Delivery],
        lost: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._partition = partition
        self._worker = worker
        self._stream = keys.inbox(partition.index, worker, model)
        self._outstanding = outstanding
        self._lost = lost
        self._log = logging.get("marks").bind(model=model)
        self._one_by_one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Mark those that are held, soon."""
        if any(delivery.held for delivery in self._outstanding.values()):
            self._do(self.renew())

    def release(self, deliveries: list[Delivery], start: Callable[[list[Delivery]], None]) -> None:
        """Unmark these, however long that takes; then `start` them. What was taken away while it waited is lost before."""
        self._do(self._release(deliveries, start))

    async def renew(self) -> None:
        """Mark those that are held. A failure is no matter: it is done twice a second."""
        async with self._one_by_one:
            # Which those are is asked only now: some may have been started by an earlier turn.
            held = [entry for entry, delivery in self._outstanding.items() if delivery.held]
            try:
                await self._mark(held, 0)
            except (CoordinatorError, ResponseError) as error:
                self._log.debug("what waits can't be marked", error=str(error))

    async def settled(self) -> None:
        """Wait until all that was to be started is."""
        await asyncio.gather(*self._tasks)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _release(self, deliveries: list[Delivery], start: Callable[[list[Delivery]], None]) -> None:
        pause = _PAUSE
        ours: set[bytes] = set()
        async with self._one_by_one:
            while True:
                try:
                    ours = await self._mark([delivery.entry for delivery in deliveries if not delivery.answered], 1)
                    break
                except ResponseError as error:
                    # The inbox is gone, and with it our right to these jobs.
                    self._log.debug("what waited can't be unmarked", error=str(error))
                    break
                except CoordinatorError:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        lost = [one.entry for one in deliveries if not one.answered and one.entry not in ours]
        if lost:
            self._lost(lost)
        start(deliveries)

    async def _mark(self, entries: Sequence[bytes], count: int) -> set[bytes]:
        """Set the delivery count; returns which of them are pending."""
        redis: Any = self._partition.redis
        if not entries:
            return set()
        return set(
            await self._partition.patiently(
                lambda: redis.xclaim(
                    self._stream, keys.INBOX_GROUP, self._worker, 0, list(entries), retrycount=count, justid=True
                )
            )
        )

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="marks")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
