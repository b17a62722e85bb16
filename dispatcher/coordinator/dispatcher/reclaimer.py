"""Takes back what lost workers hold, and what live ones have held for longer than they may."""

from __future__ import annotations

from typing import Final, cast

from coordinator.core import keys, logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.settings import Settings
from coordinator.core.views import Serving, serving_of

_PAIRS_PER_ROUND: Final = 100


class Reclaimer:
    """One partition's reclaimer. A worker is lost when its lease, on Redis's own clock, is over.

    While Redis is away no worker can renew its lease, so that all of them seem lost the moment that it is back. The
    reclaimer therefore judges only after it has itself been in touch with Redis for a whole lease without a break.
    """

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._interval = max(0.1, min(1.0, settings.lease_seconds / 4))
        self._log = logging.get("reclaimer").bind(partition=partition.index)
        self._in_touch_since: float | None = None
        self._last_round = float("-inf")
        self._drained: dict[str, float] = {}
        self._pairs: list[Serving] = []

    async def run(self) -> None:
        await repeat(self.reclaim, self._clock, self._log, pause=self._interval)

    async def reclaim(self) -> float:
        """One round: lost workers' inboxes whole, then overdue jobs of some live workers. Returns the seconds to rest."""
        started = self._clock.monotonic()
        unbroken = started - self._last_round < max(self._interval * 3, self._settings.lease_seconds / 2)
        self._last_round = float("-inf")
        lost = await self._partition.patiently(self._lost)
        if not unbroken or self._in_touch_since is None:
            self._in_touch_since = self._clock.monotonic()
        if self._clock.monotonic() - self._in_touch_since >= self._settings.lease_seconds:
            for worker, lease in lost.items():
                if self._drained.get(worker) != lease:
                    await self._reclaim_worker(worker)
                    self._drained[worker] = lease
            self._drained = {worker: lease for worker, lease in self._drained.items() if worker in lost}
            await self._take_overdue()
        self._last_round = self._clock.monotonic()
        return self._interval

    async def _lost(self) -> dict[str, float]:
        redis = self._partition.redis
        seconds, micros = await redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        rows = await redis.zrangebyscore(keys.workers(self._partition.index), "-inf", now_ms, withscores=True)
        return {name.decode(): score for name, score in cast(list[tuple[bytes, float]], rows)}

    async def _reclaim_worker(self, worker: str) -> None:
        requeued = dead = 0
        more = True
        while more:
            done = await steps.reclaim(
                self._partition,
                worker,
                max_crashes=self._settings.max_crashes,
                lifetime_ms=int(self._settings.max_job_lifetime * 1000),
                dead_retention_ms=int(self._settings.dead_retention * 1000),
            )
            requeued += done.requeued
            dead += done.dead
            more = done.more
        self._log.warning("worker lost, its jobs were taken back", worker=worker, requeued=requeued, dead=dead)

    async def _take_overdue(self) -> None:
        if not self._pairs:
            self._pairs = await self._partition.patiently(lambda: serving_of(self._partition))
        some, self._pairs = self._pairs[:_PAIRS_PER_ROUND], self._pairs[_PAIRS_PER_ROUND:]
        for pair in some:
            await self.take_overdue(pair)

    async def take_overdue(self, pair: Serving) -> int:
        """Take away what this worker has run for too long; returns how many jobs."""
        taken = 0
        cursor = ""
        while True:
            done = await steps.overdue(
                self._partition,
                pair.worker_id,
                pair.model,
                cursor=cursor,
                timeout_ms=pair.offer.timeout_ms or int(self._settings.default_timeout * 1000),
                grace_ms=int(self._settings.overdue_grace * 1000),
                max_attempts=self._settings.max_attempts,
                lifetime_ms=int(self._settings.max_job_lifetime * 1000),
                dead_retention_ms=int(self._settings.dead_retention * 1000),
            )
            taken += done.requeued + done.dead
            if done.requeued or done.dead:
                self._log.warning(
                    "jobs overdue, taken from their worker",
                    worker=pair.worker_id,
                    model=pair.model,
                    requeued=done.requeued,
                    dead=done.dead,
                )
            cursor = done.cursor
            if not cursor:
                return taken
