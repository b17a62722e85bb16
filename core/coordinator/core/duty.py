"""What all duties have in common: do the work again and again, and live through whatever Redis does.

A duty is one file with one shape: constructed with what it needs, `run()` until cancelled, and one short verb method that
does one round, which a test calls directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import structlog

from coordinator.core.clock import Clock
from coordinator.core.errors import Misconfigured, Refused


class Duty(Protocol):
    """Anything with a `run()` that goes on until cancelled."""

    async def run(self) -> None: ...


async def repeat(
    work: Callable[[], Awaitable[float]],
    clock: Clock,
    log: structlog.typing.FilteringBoundLogger,
    *,
    pause: float = 1.0,
) -> None:
    """Await `work()`, sleep as many seconds as it says, and again. A failure is logged once, and tried again after `pause`.

    Raises only `Misconfigured`, which trying again does not mend.
    """
    failing = False
    while True:
        try:
            rest = await work()
            if failing:
                failing = False
                log.info("works again")
        except Misconfigured:
            raise
        except Exception as error:
            if not failing:
                known = isinstance(error, Refused)
                log.warning("does not work, goes on trying", error=str(error), exc_info=None if known else error)
            failing = True
            rest = pause
        await clock.sleep(rest)


async def run_all(duties: Iterable[Duty]) -> None:
    """Run duties side by side until cancelled. When one ends, all are stopped, and its error is raised."""
    tasks = [asyncio.create_task(duty.run(), name=type(duty).__name__) for duty in duties]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await stop(tasks)


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended. Their errors are dropped.

    They are asked again and again: before Python 3.12 `asyncio.wait_for`, which redis-py writes with, may swallow a request.
    """
    pending = {task for task in tasks if not task.done()}
    every = tuple(pending)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)
    await asyncio.gather(*every, return_exceptions=True)
