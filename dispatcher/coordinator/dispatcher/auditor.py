"""Looks all the time, slowly, whether every job is where it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

from coordinator.core import keys, logging
from coordinator.core.audit import KINDS, Seen, walk
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.settings import Settings

_REST: Final = 0.05
"""Between two steps of about half a millisecond each: one percent of Redis's time."""
_EVERY: Final = 300.0
"""From the end of one walk, by whichever dispatcher, to the beginning of the next."""
_ASK_EVERY: Final = 10.0
_TOLD: Final = 10
"""So many findings of one walk are logged one by one."""


class Auditor:
    """One partition's auditor. It mends nothing: what it finds is a fault of Redis, of ours or of somebody's hand, and
    `coordinator audit --repair` is a decision. What the last whole walk found is kept in Redis, too.
    """

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("auditor").bind(partition=partition.index)
        self._walk: AsyncGenerator[Seen, None] | None = None
        self._found: Counter[str] = Counter()
        self._looked: Counter[str] = Counter()

    async def run(self) -> None:
        try:
            await repeat(self.audit, self._clock, self._log)
        finally:
            await self._end_walk()

    async def audit(self) -> float:
        """One step of a walk, or the beginning of one if it is time. Returns the seconds to rest."""
        if self._walk is None:
            if not await self._partition.patiently(self._is_due):
                return _ASK_EVERY
            self._found.clear()
            self._looked.clear()
            self._walk = walk(self._partition, self._settings)
        try:
            seen = await anext(self._walk)
        except StopAsyncIteration:
            self._walk = None
            await self._partition.patiently(self._keep)
            if self._found:
                self._log.error("the audit found faults; see coordinator audit", **self._found)
            else:
                self._log.debug("the audit found nothing", **self._looked)
            return _ASK_EVERY
        except BaseException:
            await self._end_walk()
            raise
        self._looked[seen.part] += seen.looked
        for finding in seen.findings:
            if self._found.total() < _TOLD:
                self._log.warning(
                    finding.problem, kind=finding.kind, request_id=finding.request_id, place=finding.place
                )
            self._found[finding.kind] += 1
        return _REST

    async def _is_due(self) -> bool:
        redis, key = self._partition.redis, keys.audit(self._partition.index)
        finished = await redis.hget(key, "finished_at")
        seconds, micros = await redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return finished is None or now_ms - int(finished) >= _EVERY * 1000

    async def _keep(self) -> None:
        redis, key = self._partition.redis, keys.audit(self._partition.index)
        seconds, micros = await redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        await redis.hset(key, mapping={**{kind: self._found[kind] for kind in KINDS}, "finished_at": now_ms})

    async def _end_walk(self) -> None:
        under_way, self._walk = self._walk, None
        if under_way is not None:
            await under_way.aclose()
