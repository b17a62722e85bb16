"""The lease: the worker's registration, kept alive by the heart and renewed when it is lost."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Any, Final

from coordinator.core import logging, steps
from coordinator.core.clock import Clock
from coordinator.core.connection import Partition
from coordinator.core.errors import CoordinatorError, Refused
from coordinator.worker.handlers import Handler
from coordinator.worker.heart import Orders
from coordinator.worker.policy import Registered
from coordinator.worker.pulse import Pulse
from coordinator.worker.registrar import Registrar

_LONGEST_PAUSE: Final = 5.0
_HEART_PAUSE: Final = 0.5
_HEART_START_SECONDS: Final = 30.0
"""A heart that was just started has that long for its first beat, however busy the machine is."""
_SILENCES: Final = 4
_BEYOND_LIMITS: Final = 5.0
"""Seconds of silence allowed beyond the longest time limit: a handler that comes back late still finds the lease."""


class Superseded(CoordinatorError):
    """Another process has registered under this worker's id since; this one must stop."""


class Lease:
    """Registers, and stays registered. A duty: `run()` until cancelled; raises `Superseded`, `InvalidInput`."""

    def __init__(
        self,
        registrar: Registrar,
        handlers: Mapping[str, Handler],
        metadata: Mapping[str, Any],
        clock: Clock,
        *,
        worker_id: str | None = None,
    ) -> None:
        self._registrar = registrar
        self._handlers = handlers
        self._metadata = metadata
        self._clock = clock
        self._worker_id = worker_id
        self._incarnation: str | None = None
        self._registered: Registered | None = None
        self._redis_url = ""
        self._longest = 0.0
        self.beats = asyncio.Event()
        """Set from the heart's first answer on. Before that, the lease might pass while the first jobs run."""
        self._pulse: Pulse | None = None
        self._entering: asyncio.Task[Registered] | None = None
        self._leaving = False
        self._state = ""
        self._log = logging.get("lease")

    @property
    def heart_pid(self) -> int:
        """The heart's process id; 0 while there is none."""
        return self._pulse.pid if self._pulse else 0

    async def enter(self) -> Registered:
        """Register, however long the coordinator may be away. Calls at the same time share one registration."""
        if self._entering is None:
            self._entering = asyncio.create_task(self._enter(), name="register")
            self._entering.add_done_callback(self._entered)
        return await asyncio.shield(self._entering)

    async def enter_again(self, partition: Partition) -> None:
        """An inbox is gone from `partition`: register again, and return when that is done.

        Not if another process has taken over the id: then the heart will say so, and this one stops.
        """
        if self._leaving or await self._is_superseded(partition):
            await asyncio.Event().wait()
        await self.enter()

    async def _is_superseded(self, partition: Partition) -> bool:
        registered, incarnation = self._registered, self._incarnation
        if registered is None or incarnation is None:
            return False
        lease_ms = round(registered.lease_seconds * 1000)
        while True:
            try:
                state = await steps.heartbeat(partition, registered.worker_id, incarnation, lease_ms=lease_ms)
            except Refused:
                await self._clock.sleep(_HEART_PAUSE)
            else:
                return state == "superseded"

    def keep(self, registered: Registered, redis_url: str) -> None:
        """Say what the heart has to keep alive, once it is known; then `run`."""
        self._registered = registered
        self._redis_url = redis_url
        self._longest = max(placement.timeout_seconds for placement in registered.models.values())

    def allow(self, timeout: float) -> None:
        """A job may take so long: should it block the loop, the lease is to outlast it."""
        if timeout > self._longest:
            self._longest = timeout
            self.tick()

    def tick(self) -> None:
        """Tell the heart that the event loop runs."""
        if self._pulse is not None and self._registered is not None:
            self._pulse.tick(max(self._registered.lease_seconds, self._longest + _BEYOND_LIMITS))

    def leave(self) -> None:
        """From now on a registration that is gone stays gone; the lease is still kept."""
        self._leaving = True

    async def run(self) -> None:
        registered = self._registered
        assert registered is not None
        ticking = asyncio.create_task(self._tick_on(registered.heartbeat_seconds / 4), name="ticks")
        try:
            while True:
                try:
                    self._pulse = await Pulse.start(self._orders(registered))
                except CoordinatorError as error:
                    self._log.error(str(error))
                    await self._clock.sleep(_HEART_PAUSE)
                    continue
                self.tick()
                try:
                    await self._listen(self._pulse, max(registered.lease_seconds, 4 * registered.heartbeat_seconds))
                finally:
                    pulse, self._pulse = self._pulse, None
                    await pulse.stop()
                self._log.warning("the heart stopped, starts another")
                await self._clock.sleep(_HEART_PAUSE)
        finally:
            ticking.cancel()
            self.close()

    def close(self) -> None:
        """Give up a registration that is under way."""
        if self._entering is not None:
            self._entering.cancel()

    async def _tick_on(self, interval: float) -> None:
        while True:
            self.tick()
            await self._clock.sleep(interval)

    async def _listen(self, pulse: Pulse, longest: float) -> None:
        """Heed the heart's answers until it ends or falls silent."""
        silent = 0
        patience = max(longest, _HEART_START_SECONDS)
        while silent < _SILENCES:
            try:
                # In several steps: when the loop was held up, the answers are there, and only not read yet.
                async with asyncio.timeout(patience / _SILENCES):
                    state = await pulse.answer()
            except TimeoutError:
                silent += 1
                continue
            if not state:
                return
            silent = 0
            patience = longest
            self.beats.set()
            await self._heed(state)

    async def _heed(self, state: str) -> None:
        before, self._state = self._state, state
        if state == "superseded" and not self._leaving:
            raise Superseded(
                f"Another process has registered as '{self._worker_id}' since: this one stops. What it held is taken back."
            )
        if state == "unknown" and not self._leaving:
            self._log.warning("the lease was lost, registers again")
            await self.enter()
        elif state != before and state in ("away", "draining"):
            self._log.warning(
                "heartbeat: " + {"away": "Redis does not answer", "draining": "we get no more work"}[state]
            )

    async def _enter(self) -> Registered:
        pause = 0.1
        silent = False
        while True:
            try:
                registered = await self._registrar.register(
                    self._handlers, self._metadata, worker_id=self._worker_id, incarnation=self._incarnation
                )
            except Refused as error:
                if not silent:
                    self._log.warning("can't register, goes on trying", error=str(error))
                silent = True
                await self._clock.sleep(
                    max(pause, error.retry_after) * random.uniform(0.5, 1.0) if pause > 1 else pause
                )
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._worker_id, self._incarnation = registered.worker_id, registered.incarnation
            self._log.info("registered", worker=registered.worker_id, models=sorted(registered.models))
            return registered

    def _entered(self, task: asyncio.Task[Registered]) -> None:
        self._entering = None
        if not task.cancelled():
            task.exception()

    def _orders(self, registered: Registered) -> Orders:
        return Orders(
            registered.worker_id,
            registered.incarnation,
            self._redis_url,
            registered.partitions,
            sorted({placement.partition for placement in registered.models.values()}),
            registered.lease_seconds,
            registered.heartbeat_seconds,
            os.getpid(),
        )
