"""Redis's time, as a process guesses it between two steps; and the clock that tests move."""

from __future__ import annotations

import asyncio

from harness.clock import ManualClock

from coordinator.core.clock import RedisTime, SystemClock


def test_the_time_learned_goes_on_with_the_monotonic_clock() -> None:
    clock = ManualClock()
    time = RedisTime(clock)
    time.learn(5_000_000)
    clock.advance(1.5)
    assert time.now_ms() == 5_001_500
    time.learn(4_000_000)
    assert time.now_ms() == 4_000_000


async def test_the_system_clock_moves() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before


async def test_sleepers_of_the_manual_clock_wake_in_order() -> None:
    clock = ManualClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleep(seconds)) for seconds in (3, 1, 2)]
    await clock.asleep(3)
    clock.advance(2)
    await asyncio.gather(*tasks[1:])
    assert woken == [1, 2]
    clock.advance(1)
    await tasks[0]
