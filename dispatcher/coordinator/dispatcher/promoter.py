"""Moves retries in backoff and scheduled jobs to their lanes when they fall due."""

from __future__ import annotations

from typing import Final

from coordinator.core import logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.settings import Settings

_LONGEST_REST: Final = 0.25
"""Something due sooner may be parked while we rest."""


class Promoter:
    """One partition's promoter."""

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("promoter").bind(partition=partition.index)

    async def run(self) -> None:
        await repeat(self.promote, self._clock, self._log)

    async def promote(self) -> float:
        """Move what is due. Returns the seconds to rest until more may be due."""
        done = await steps.promote(self._partition, lifetime_ms=int(self._settings.max_job_lifetime * 1000))
        if done.moved:
            self._log.debug("promoted", jobs=done.moved)
        if done.next_in_ms < 0:
            return _LONGEST_REST
        return min(_LONGEST_REST, done.next_in_ms / 1000)
