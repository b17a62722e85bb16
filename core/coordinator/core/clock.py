"""Time, injected, so that tests move it instead of waiting for it.

Two clocks never get compared across hosts: what is stored in Redis is always Redis's own TIME, read inside the step.
`RedisTime` is how a process guesses that time between two steps, from the last reply that told it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and sleeping by them."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RedisTime:
    """An estimate of Redis's TIME in milliseconds: the last one seen plus the monotonic time since.

    A jump of this host's wall clock does not touch it. Before the first `learn`, the wall clock serves as a guess.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._offset_ms = time.time() * 1000 - self._clock.monotonic() * 1000

    def learn(self, redis_ms: int) -> None:
        """Take over what a step's reply said the time is."""
        self._offset_ms = redis_ms - self._clock.monotonic() * 1000

    def now_ms(self) -> int:
        return int(self._offset_ms + self._clock.monotonic() * 1000)
