"""Duties: they go on whatever Redis does, and when one ends all do."""

from __future__ import annotations

import asyncio

import pytest
from harness.clock import ManualClock

from coordinator.core import logging
from coordinator.core.duty import repeat, run_all
from coordinator.core.errors import Misconfigured, RedisUnavailable

LOG = logging.get("test")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_is_repeated_after_the_rest_that_it_asks_for() -> None:
    clock = ManualClock()
    times: list[float] = []

    async def work() -> float:
        times.append(clock.monotonic())
        return 5.0

    task = asyncio.create_task(repeat(work, clock, LOG))
    for _ in range(3):
        await clock.asleep()
        clock.advance(5)
    await clock.asleep()
    assert times == [1000, 1005, 1010, 1015]
    await _cancelled(task)


async def test_a_failure_is_tried_again_after_the_pause() -> None:
    clock = ManualClock()
    errors = [RedisUnavailable("gone"), ValueError("a bug"), None]
    times: list[float] = []

    async def work() -> float:
        times.append(clock.monotonic())
        error = errors.pop(0)
        if error is not None:
            raise error
        return 100.0

    task = asyncio.create_task(repeat(work, clock, LOG, pause=2.0))
    for _ in range(2):
        await clock.asleep()
        clock.advance(2)
    await clock.asleep()
    assert times == [1000, 1002, 1004]
    await _cancelled(task)


async def test_what_trying_again_does_not_mend_ends_it() -> None:
    async def work() -> float:
        raise Misconfigured("no")

    with pytest.raises(Misconfigured):
        await repeat(work, ManualClock(), LOG)


class _Forever:
    def __init__(self) -> None:
        self.stopped = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped = True


class _Failing:
    async def run(self) -> None:
        raise Misconfigured("no")


async def test_when_one_duty_ends_all_are_stopped() -> None:
    other = _Forever()
    with pytest.raises(Misconfigured):
        await run_all([other, _Failing()])
    assert other.stopped


async def test_when_they_are_cancelled_all_are_stopped() -> None:
    duties = [_Forever(), _Forever()]
    task = asyncio.create_task(run_all(duties))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await _cancelled(task)
    assert [duty.stopped for duty in duties] == [True, True]
