"""Watching over what runs: its time limits, and whether it is still ours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from coordinator.core import logging, steps
from coordinator.core.clock import Clock
from coordinator.core.duty import repeat
from coordinator.core.errors import Misconfigured
from coordinator.worker.service import Service

_LIMITS_INTERVAL: Final = 0.1
_HOLDINGS_INTERVAL: Final = 0.5
_YOUNG: Final = 0.5
_LEARN_EVERY: Final = 10.0
_PAGE: Final = 200
_STUCK_PER_SLOT: Final = 2


class StuckHandlers(Misconfigured):
    """So many handlers never came back that only a new process can help."""


class TimeLimits:
    """Gives up on jobs whose time is over."""

    def __init__(self, services: Sequence[Service], clock: Clock) -> None:
        self._services = services
        self._clock = clock

    async def run(self) -> None:
        while True:
            for service in self._services:
                service.time_out()
            await self._clock.sleep(_LIMITS_INTERVAL)


class StuckGuard:
    """Gives up on the process when too many handlers don't come back. Its `run()` raises `StuckHandlers`."""

    def __init__(self, services: Sequence[Service], clock: Clock) -> None:
        self._services = services
        self._clock = clock

    async def run(self) -> None:
        while True:
            self.check()
            await self._clock.sleep(_LIMITS_INTERVAL)

    def check(self) -> None:
        """One round."""
        for service in self._services:
            if service.runner.stuck > _STUCK_PER_SLOT * service.capacity:
                raise StuckHandlers(
                    f"{service.runner.stuck} calls of the handler of '{service.model}' ran out of time and never came back: "
                    "the worker stops, to be started anew."
                )


class Holdings:
    """Asks twice a second whether the jobs that take longer are still ours; learns what Redis's time is."""

    def __init__(self, services: Sequence[Service], clock: Clock) -> None:
        self._services = services
        self._clock = clock
        self._log = logging.get("holdings")
        self._learned = float("-inf")

    async def run(self) -> None:
        await repeat(self.check, self._clock, self._log)

    async def check(self) -> float:
        """One round. Returns the seconds to rest."""
        if self._clock.monotonic() - self._learned >= _LEARN_EVERY:
            for partition in {service.partition for service in self._services}:
                await partition.patiently(partial(_learn_time, partition))
            self._learned = self._clock.monotonic()
        for service in self._services:
            now = time.monotonic()
            old = [
                entry
                for entry, delivery in service.outstanding.items()
                if not delivery.answered and now - delivery.delivered > _YOUNG
            ]
            for at in range(0, len(old), _PAGE):
                page = old[at : at + _PAGE]
                service.lose(await steps.held(service.partition, service.worker, service.model, page))
            await service.marks.renew()
        return _HOLDINGS_INTERVAL


async def _learn_time(partition: Any) -> None:
    seconds, micros = await partition.redis.time()
    partition.time.learn(int(seconds) * 1000 + int(micros) // 1000)
