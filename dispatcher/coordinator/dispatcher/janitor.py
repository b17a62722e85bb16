"""Removes what has outlived its retention, and guards the memory limit."""

from __future__ import annotations

import contextlib
from typing import Any, Final, cast

from coordinator.core import keys, logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.errors import MemoryPressure
from coordinator.core.settings import Settings

_INTERVAL: Final = 1.0
_SWEEP_EVERY: Final = 10.0
_PRESSURE_MS: Final = 3000
_BUCKETS_BACK: Final = 24


class Janitor:
    """One partition's janitor."""

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("janitor").bind(partition=partition.index)
        self._swept = float("-inf")
        self._pressed = False

    async def run(self) -> None:
        await repeat(self.tidy, self._clock, self._log)

    async def tidy(self) -> float:
        """One round. Returns the seconds to rest."""
        with contextlib.suppress(MemoryPressure):
            # Beyond its limit Redis refuses new work itself, and sweeping is what frees memory.
            await self.gauge()
        now = self._clock.monotonic()
        if now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            await self.sweep()
        return _INTERVAL

    async def gauge(self) -> None:
        """Tell submit to refuse new work while Redis is close to its memory limit."""
        info = cast(dict[str, Any], await self._partition.patiently(lambda: self._partition.redis.info("memory")))
        limit = int(info.get("maxmemory", 0))
        pressed = limit > 0 and int(info["used_memory"]) > limit * self._settings.max_memory_percent / 100
        if pressed:
            key = keys.pressure(self._partition.index)
            await self._partition.patiently(lambda: self._partition.redis.set(key, "1", px=_PRESSURE_MS))
        if pressed != self._pressed:
            self._pressed = pressed
            (self._log.warning if pressed else self._log.info)(
                "memory limit is near, new jobs are refused" if pressed else "memory is free again",
                used=info["used_memory"],
                limit=limit,
            )

    async def sweep(self) -> None:
        """Remove old results, dead letters, lost workers and forgotten waiters."""
        await self._partition.patiently(self._drop_buckets)
        settings = self._settings
        pruned = 500
        while pruned == 500:
            pruned = await steps.prune_dead(
                self._partition, retention_ms=int(settings.dead_retention * 1000), max_dead=settings.max_dead
            )
        forgotten = await steps.forget(self._partition, retention_ms=int(settings.worker_retention * 1000))
        if forgotten:
            self._log.info("forgot workers lost long ago", workers=forgotten)
        await self._partition.patiently(self._drop_waiters)

    async def _drop_buckets(self) -> None:
        seconds, _ = await self._partition.redis.time()
        kept = self._settings.max_job_lifetime + self._settings.result_retention
        newest = int((int(seconds) - kept) // keys.BUCKET_SECONDS) - 3
        old = [keys.results(self._partition.index, newest - back) for back in range(_BUCKETS_BACK)]
        removed = await self._partition.redis.unlink(*old)
        if removed:
            self._log.info("dropped results that were kept for their time", buckets=removed)

    async def _drop_waiters(self) -> None:
        redis, key = self._partition.redis, keys.waiters(self._partition.index)
        # Not this host's clock: one that is ahead would forget all who wait.
        seconds, micros = await redis.time()
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        self._partition.time.learn(now_ms)
        cursor = 0
        while True:
            cursor, rows = await redis.hscan(key, cursor, count=500)
            over = [
                request_id
                for request_id, waiters in cast(dict[bytes, bytes], rows).items()
                if all(int(waiter.rpartition(b"@")[2]) < now_ms for waiter in waiters.split(b","))
            ]
            if over:
                # One that is renewed just now is entered again by its next re-check.
                await redis.hdel(key, *over)
            if cursor == 0:
                return
