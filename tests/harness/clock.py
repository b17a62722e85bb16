"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq


class ManualClock:
    """Stands still until `advance`; who sleeps on it wakes when its time has come, in the order of their times."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._slept = asyncio.Event()

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, future))
        self._slept.set()
        await future

    @property
    def sleepers(self) -> int:
        """How many sleep right now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def asleep(self, count: int = 1) -> None:
        """Return once at least `count` sleep: whoever they are, they have done all that they do at this time."""
        while self.sleepers < count:
            self._slept.clear()
            await self._slept.wait()

    def advance(self, seconds: float) -> None:
        """Move on, and wake those whose time has come."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
