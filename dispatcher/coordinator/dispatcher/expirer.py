"""Ends jobs whose deadline passed before they were started."""

from __future__ import annotations

from typing import Final

from coordinator.core import logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.settings import Settings

_INTERVAL: Final = 1.0
_CALLS_PER_LANE: Final = 10


class Expirer:
    """One partition's expirer. Assigning also checks each job's deadline; this is for jobs that nobody takes."""

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("expirer").bind(partition=partition.index)
        self._cursors: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        await repeat(self.expire, self._clock, self._log)

    async def expire(self) -> float:
        """Look through some of each backlog. Returns the seconds to rest."""
        ended = 0
        for model, lane in await steps.waiting(self._partition):
            ended += await self._expire_lane(model, lane)
        if ended:
            self._log.info("expired before they were started", jobs=ended)
        return _INTERVAL

    async def _expire_lane(self, model: str, lane: str) -> int:
        cursor = self._cursors.pop((model, lane), "")
        ended = 0
        for _ in range(_CALLS_PER_LANE):
            done = await steps.expire(
                self._partition,
                model,
                lane,
                cursor=cursor,
                lifetime_ms=int(self._settings.max_job_lifetime * 1000),
            )
            ended += done.expired
            cursor = done.cursor
            if not cursor:
                return ended
        self._cursors[(model, lane)] = cursor
        return ended
