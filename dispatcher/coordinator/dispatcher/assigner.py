"""Assigns waiting jobs to workers with room."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import RedisError

from coordinator.core import keys, logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.duty import repeat
from coordinator.core.errors import RedisUnavailable
from coordinator.core.settings import Settings
from coordinator.core.views import serving_names

_CANDIDATES: Final = 100
"""How many workers one assign looks at: 100 cost Redis 50 us, 500 cost it 660."""
_BATCHES: Final = 8
"""After so many batches of one model, another model that was woken gets its turn."""
_BLOCK_SECONDS: Final = 1.0
_PAGE_SECONDS: Final = 0.005
"""When no page of a large fleet had room, only the page that had some last is asked for so long per page."""


class Assigner:
    """One partition's assigner: sleeps in Redis until a model is woken, then deals its jobs until none or no room is left.

    A wake that was popped by a dispatcher that died right then would be lost; so about once a second every model that
    has both work and workers is woken again.
    """

    def __init__(self, partition: Partition, settings: Settings, clock: Clock) -> None:
        self._partition = partition
        self._settings = settings
        self._clock = clock
        self._log = logging.get("assigner").bind(partition=partition.index)
        self._rosters: dict[str, list[str]] = {}
        self._outdated: set[str] = set()
        self._full: dict[str, float] = {}
        """Models of large fleets without room, and when all pages may be asked again."""
        self._in_vain: set[str] = set()
        """Which of them were woken meanwhile."""
        self._roused = float("-inf")
        self._blocking: Any = None

    async def run(self) -> None:
        try:
            await repeat(self._wait_and_assign, self._clock, self._log, pause=0.2)
        finally:
            await self._disconnect()

    async def _wait_and_assign(self) -> float:
        now = self._clock.monotonic()
        if now - self._roused >= _BLOCK_SECONDS:
            self._roused = now
            # Workers come and go; as long as those known have room, nothing else would make us ask again.
            self._outdated.update(self._rosters)
            await steps.rouse(self._partition)
        if self._blocking is None:
            self._blocking = self._partition.blocking()
        for model in [model for model in self._in_vain if self._full[model] <= now]:
            self._in_vain.discard(model)
            await self.assign(model)
        now = self._clock.monotonic()
        wait = max(0.001, min(self._full[model] for model in self._in_vain) - now) if self._in_vain else _BLOCK_SECONDS
        try:
            popped = await self._blocking.connection_pool.call(
                "BZPOPMIN", keys.wake(self._partition.index), f"{wait:.3f}"
            )
        except (RedisError, OSError) as error:
            await self._disconnect()
            raise RedisUnavailable(str(error)) from error
        if popped is not None:
            await self.assign(popped[1].decode())
        return 0.0

    async def assign(self, model: str) -> int:
        """Deal the model's waiting jobs; returns how many moved."""
        moved = 0
        for _ in range(_BATCHES):
            state, some = await self._assign_batch(model)
            moved += some
            if state != "more":
                return moved
        await self._partition.patiently(lambda: self._wake(model))
        return moved

    async def _assign_batch(self, model: str) -> tuple[str, int]:
        """One batch, dealt to the first page of workers that has room. "starved" means that no page had."""
        fresh = model in self._outdated or model not in self._rosters
        roster = await self._roster(model) if fresh else self._rosters[model]
        first_only = self._full.get(model, 0.0) > self._clock.monotonic()
        while True:
            for at in range(0, 1 if first_only else max(len(roster), 1), _CANDIDATES):
                page = roster[at : at + _CANDIDATES]
                done = await steps.assign(
                    self._partition,
                    model,
                    page,
                    batch=self._settings.assign_batch,
                    lifetime_ms=int(self._settings.max_job_lifetime * 1000),
                )
                if done.serving != len(roster):
                    # Somebody came or went: ask before the next batch, or a newcomer gets nothing while the others have room.
                    self._outdated.add(model)
                if done.moved or done.expired or done.state != "starved":
                    if at:
                        # Begin with the pages that may have room.
                        self._rosters[model] = roster[at:] + roster[:at]
                    again = done.state == "starved" and len(roster) > _CANDIDATES
                    return ("more" if again else done.state), done.moved
            if first_only:
                self._in_vain.add(model)
                return "starved", 0
            if len(roster) > _CANDIDATES:
                self._full[model] = self._clock.monotonic() + len(roster) / _CANDIDATES * _PAGE_SECONDS
                return "starved", 0
            if fresh:
                return "starved", 0
            # The workers may have changed since we asked.
            known, fresh = roster, True
            roster = await self._roster(model)
            if roster is known:
                return "starved", 0

    async def _roster(self, model: str) -> list[str]:
        names = await self._partition.patiently(lambda: serving_names(self._partition, model))
        self._outdated.discard(model)
        known = self._rosters.get(model, [])
        if len(known) == len(names) and set(known) == set(names):
            # In the order that we know: it begins with those that may have room.
            return known
        self._rosters[model] = names
        return names

    async def _wake(self, model: str) -> None:
        now_ms = self._partition.time.now_ms()
        await self._partition.redis.zadd(keys.wake(self._partition.index), {model: now_ms}, nx=True)

    async def _disconnect(self) -> None:
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            try:
                await blocking.aclose()
            except (RedisError, OSError):
                self._log.debug("closing a broken connection failed")
