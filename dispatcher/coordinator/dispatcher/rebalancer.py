"""Moves work that a busy worker has not read yet to a worker with a free slot."""

from __future__ import annotations

from typing import Final

from coordinator.core import logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.settings import Settings
from coordinator.core.views import rosters_of

_BUSY_REST: Final = 0.1
"""For each page of workers: a large fleet is looked at less often, so that looking costs the same."""
_IDLE_REST: Final = 1.0
_CANDIDATES: Final = 100


class Rebalancer:
    """One partition's rebalancer. Prefetched work is the coordinator's until it is read, so moving it is safe."""

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("rebalancer").bind(partition=partition.index)
        self._turn = 0

    async def run(self) -> None:
        await repeat(self.rebalance, self._clock, self._log)

    async def rebalance(self) -> float:
        """One round over all models. Returns the seconds to rest: few while anything is outstanding."""
        outstanding = 0
        self._turn += 1
        rosters = await self._partition.patiently(lambda: rosters_of(self._partition))
        for model, roster in rosters.items():
            outstanding += await self.rebalance_model(model, roster)
        pages = sum(len(roster) // _CANDIDATES + 1 for roster in rosters.values())
        return min(_IDLE_REST, _BUSY_REST * pages) if outstanding else _IDLE_REST

    async def rebalance_model(self, model: str, roster: list[str]) -> int:
        """Move what can be moved within each page of workers; how many jobs the workers have."""
        # With more than one page, another cut each turn brings other workers together.
        shift = self._turn * 37 % len(roster) if len(roster) > _CANDIDATES else 0
        roster = roster[shift:] + roster[:shift]
        outstanding = 0
        for at in range(0, len(roster), _CANDIDATES):
            done = await steps.rebalance(self._partition, model, roster[at : at + _CANDIDATES])
            outstanding += done.outstanding
            if done.moved:
                self._log.debug("moved unread jobs to idle workers", model=model, jobs=done.moved)
        return outstanding
