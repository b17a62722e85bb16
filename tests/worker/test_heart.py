"""The heart: it keeps the lease of a worker that deserves it, and of no other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.field import Field
from harness.stage import until

from coordinator.core import keys, steps
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings
from coordinator.worker.heart import Heart, Orders, Tick, is_stopped
from coordinator.worker.pulse import Pulse


@pytest.fixture
async def field(connections: Connections) -> Field:
    field = Field(connections.partitions[0])
    await field.register()
    await field.redis.zadd(keys.workers(0), {"w": await field.now_ms() + 1000})
    return field


@pytest.fixture
def orders(settings: Settings) -> Orders:
    return Orders("w", "1", settings.redis_url, 1, [0], 2.0, 0.1, os.getpid())


@pytest.fixture
async def pulse(orders: Orders) -> AsyncIterator[Pulse]:
    pulse = await Pulse.start(orders)
    yield pulse
    await pulse.stop()


async def test_it_renews_the_lease_and_says_so(field: Field, pulse: Pulse) -> None:
    before = await field.redis.zscore(keys.workers(0), "w")
    assert await pulse.answer() == "live"
    assert await field.redis.zscore(keys.workers(0), "w") > before


async def test_it_passes_on_what_the_coordinator_says(field: Field, pulse: Pulse) -> None:
    await _says(pulse, "live")
    await steps.drain(field.partition, "w")
    await _says(pulse, "draining")
    await field.register(incarnation="2")
    await _says(pulse, "superseded")
    await field.redis.flushdb()
    await _says(pulse, "unknown")


async def test_it_ends_when_the_pipe_is_closed(pulse: Pulse) -> None:
    await pulse.answer()
    os.close(pulse._pipe)
    assert await asyncio.wait_for(pulse._process.wait(), 10) == 0
    pulse._pipe = os.open(os.devnull, os.O_WRONLY)


async def test_ctrl_c_and_sigterm_are_the_worker_s_business(field: Field, pulse: Pulse) -> None:
    await pulse.answer()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pulse.pid, number)
    for _ in range(3):
        assert await pulse.answer() == "live"


async def test_it_does_not_outlive_a_worker_that_is_killed(settings: Settings) -> None:
    # A forked child keeps the pipe open, as data loaders do; the heart must notice all the same.
    script = f"""
import asyncio, os, signal
from coordinator.worker.heart import Orders
from coordinator.worker.pulse import Pulse

async def main():
    pulse = await Pulse.start(Orders("w", "1", {settings.redis_url!r}, 1, [0], 1.0, 0.05, os.getpid()))
    child = os.fork()
    if child == 0:
        os.close(1)
        signal.pause()
    print(pulse.pid, child, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    heart, child = map(int, (await worker.stdout.readline()).split())
    try:
        assert _runs(heart)
        worker.kill()
        await worker.wait()
        await until(lambda: not _runs(heart))
    finally:
        os.kill(child, signal.SIGKILL)


class Watch:
    """Monotonic seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_loop_that_stands_still_gets_no_work_and_in_the_end_no_lease(field: Field, orders: Orders) -> None:
    said: list[str] = []
    watch = Watch()
    orders.heartbeat_seconds = 2.0
    heart = Heart(orders, said.append, monotonic=watch)
    heart.tick(Tick(patience=30))
    serving = keys.serving(0, "m")

    watch.now += 5
    await heart.beat()
    assert said == ["live"]
    assert not await field.redis.hexists(serving, "w")

    heart.tick(Tick(patience=30))
    await heart.beat()
    assert await field.redis.hexists(serving, "w")

    watch.now += 30
    await heart.beat()
    assert said == ["live"] * 3
    watch.now += 1
    await heart.beat()
    assert said == ["live"] * 3
    await heart.close()


async def test_a_stopped_worker_gets_no_heartbeat(field: Field, orders: Orders) -> None:
    said: list[str] = []
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", "import signal; signal.pause()")
    try:
        orders.worker_pid = worker.pid
        heart = Heart(orders, said.append)
        await heart.beat()
        assert said == ["live"]
        worker.send_signal(signal.SIGSTOP)
        await until(lambda: is_stopped(worker.pid))
        await heart.beat()
        assert said == ["live"]
        worker.send_signal(signal.SIGCONT)
        await until(lambda: not is_stopped(worker.pid))
        await heart.beat()
        assert said == ["live", "live"]
        await heart.close()
    finally:
        worker.kill()
        await worker.wait()


async def test_redis_away_is_said_and_lived_through(orders: Orders) -> None:
    said: list[str] = []
    orders.redis_url = "redis://127.0.0.1:1/0"
    heart = Heart(orders, said.append)
    await heart.beat()
    await heart.close()
    assert said == ["away"]


def test_a_process_that_is_not_there_is_not_stopped() -> None:
    assert not is_stopped(2**22 + 1)


async def _says(pulse: Pulse, state: str) -> None:
    async with asyncio.timeout(10):
        while await pulse.answer() != state:
            pass


def _runs(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except OSError:
        return False
