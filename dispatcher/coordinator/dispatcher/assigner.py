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
from coordinator.dispatcher.fleet import Fleet

_BATCHES: Final = 8
"""After so many batches of one model, another model that was woken gets its turn."""
_BLOCK_SECONDS: Final = 1.0


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
        self._fleets: dict[str, Fleet] = {}
        self._outdated: set[str] = set()
        self._owed: dict[str, tuple[float, float]] = {}
        """Models that were woken while pages of their fleet rested: when to go on, and when they were woken."""
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
            self._outdated.update(self._fleets)
            await steps.rouse(self._partition)
        if self._blocking is None:
            self._blocking = self._partition.blocking()
        await self.go_on()
        wait = _BLOCK_SECONDS
        if self._owed:
            wait = max(0.001, min(self._owed.values())[0] - self._clock.monotonic())
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

    async def assign(self, model: str, woken: float | None = None) -> int:
        """Deal the waiting jobs of a model that was woken just now, or was `woken` then; returns how many moved."""
        moved = 0
        woken = self._clock.monotonic() if woken is None else woken
        for _ in range(_BATCHES):
            state, some = await self._assign_batch(model, woken)
            moved += some
            if state != "more":
                return moved
        await self._partition.patiently(lambda: self._wake(model))
        return moved

    async def go_on(self) -> None:
        """Ask those pages of workers that rested when their model was woken, and may be asked now."""
        now = self._clock.monotonic()
        for model, (due, woken) in tuple(self._owed.items()):
            if due <= now:
                del self._owed[model]
                await self.assign(model, woken)

    async def _assign_batch(self, model: str, woken: float) -> tuple[str, int]:
        """One batch, dealt to the next page of workers that has room. "starved" means that none had that was asked."""
        fresh = model in self._outdated or model not in self._fleets
        fleet = await self._fleet(model) if fresh else self._fleets[model]
        while True:
            now = self._clock.monotonic()
            due = fleet.due(now)
            for at in due:
                done = await steps.assign(
                    self._partition,
                    model,
                    fleet.pages[at],
                    batch=fleet.batch(at, self._settings.assign_batch),
                    lifetime_ms=int(self._settings.max_job_lifetime * 1000),
                )
                if done.serving != len(fleet.names):
                    # Somebody came or went: ask before the next batch, or a newcomer gets nothing while the others have room.
                    self._outdated.add(model)
                if done.moved or done.expired or done.state != "starved":
                    fleet.had_room(at)
                    again = done.state == "starved" and len(fleet.pages) > 1
                    return ("more" if again else done.state), done.moved
                fleet.had_none(at, now)
            if len(due) < len(fleet.pages) and (rested := fleet.owed(woken)) is not None:
                self._owed[model] = rested, woken
            if fresh or len(fleet.pages) > 1:
                return "starved", 0
            # The workers may have changed since we asked.
            known, fresh = fleet, True
            fleet = await self._fleet(model)
            if fleet is known:
                return "starved", 0

    async def _fleet(self, model: str) -> Fleet:
        names = await self._partition.patiently(lambda: serving_names(self._partition, model))
        self._outdated.discard(model)
        known = self._fleets.get(model)
        if known is None or known.names != frozenset(names):
            known = self._fleets[model] = Fleet(names)
        return known

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
