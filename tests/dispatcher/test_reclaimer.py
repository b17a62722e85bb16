"""The reclaimer: who is lost by Redis's clock, and only once Redis itself was there for a whole lease."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from harness.clock import ManualClock
from harness.field import Field, until
from harness.redis import RedisServer

from coordinator.core import keys, steps, views
from coordinator.core.connection import Connections
from coordinator.core.errors import RedisUnavailable
from coordinator.core.records import ModelOffer
from coordinator.core.settings import Settings
from coordinator.dispatcher.reclaimer import Reclaimer

LEASE = 8


@pytest.fixture
def reclaimer(field: Field, settings: Settings, clock: ManualClock) -> Reclaimer:
    return Reclaimer(field.partition, settings, clock)


async def _rounds(reclaimer: Reclaimer, clock: ManualClock, seconds: float) -> None:
    """Let so much time pass, with a round at each interval."""
    passed = 0.0
    while passed < seconds:
        rest = await reclaimer.reclaim()
        clock.advance(rest)
        passed += rest
    await reclaimer.reclaim()


async def test_a_lost_workers_jobs_are_taken_back(field: Field, reclaimer: Reclaimer, clock: ManualClock) -> None:
    await field.register()
    job = await field.given()
    await field.end_lease()
    await _rounds(reclaimer, clock, LEASE)
    assert await field.lane("retry") == [job.request_id]
    assert (await field.record(job.request_id)).attempts == 1


async def test_it_judges_nobody_before_it_was_in_touch_for_a_whole_lease(
    field: Field, reclaimer: Reclaimer, clock: ManualClock
) -> None:
    """Redis may just be back: no worker could renew its lease while it was away."""
    await field.register()
    job = await field.given()
    await field.end_lease()
    await _rounds(reclaimer, clock, LEASE - 2)
    assert await field.inbox() == [job.request_id]
    await steps.heartbeat(field.partition, "w", "1", lease_ms=60_000)
    await _rounds(reclaimer, clock, LEASE)
    assert await field.complete(job.done()) == [1]


async def test_after_losing_redis_it_holds_off_again(own_redis: RedisServer, clock: ManualClock) -> None:
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.1, lease_seconds=LEASE, heartbeat_seconds=2)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        reclaimer = Reclaimer(field.partition, settings, clock)
        await field.register()
        job = await field.given()
        await _rounds(reclaimer, clock, LEASE)
        own_redis.stop()
        with pytest.raises(RedisUnavailable):
            await reclaimer.reclaim()
        clock.advance(60)
        own_redis.start()
        await field.end_lease()
        await _rounds(reclaimer, clock, LEASE - 2)
        assert await field.inbox() == [job.request_id]
        await _rounds(reclaimer, clock, LEASE)
        assert await field.lane("retry") == [job.request_id]


async def test_a_pause_of_its_own_makes_it_hold_off_as_well(
    field: Field, reclaimer: Reclaimer, clock: ManualClock
) -> None:
    """Its process was stopped for long: what it knows of others is old."""
    await field.register()
    await _rounds(reclaimer, clock, LEASE)
    job = await field.given()
    await field.end_lease()
    clock.advance(3600)
    await reclaimer.reclaim()
    assert await field.inbox() == [job.request_id]
    await _rounds(reclaimer, clock, LEASE)
    assert await field.inbox() == []


async def test_a_worker_is_taken_back_once_per_loss(field: Field, reclaimer: Reclaimer, clock: ManualClock) -> None:
    await field.register()
    await field.end_lease()
    await _rounds(reclaimer, clock, LEASE)
    assert await field.redis.hget(keys.worker(0, "w"), "state") == b"lost"
    await field.register(incarnation="2")
    job = await field.given()
    await field.end_lease()
    await field.redis.zadd(keys.workers(0), {"w": 2})
    await _rounds(reclaimer, clock, 2)
    assert await field.lane("retry") == [job.request_id]


async def test_large_inboxes_are_drained_whole(field: Field, reclaimer: Reclaimer, clock: ManualClock) -> None:
    await field.register(m="900:900")
    await field.put_many(700)
    await field.assign(batch=1000)
    await field.take(count=10)
    await field.end_lease()
    await _rounds(reclaimer, clock, LEASE)
    assert len(await field.lane("retry")) == 700
    assert await field.inbox() == []


async def test_overdue_jobs_of_live_workers_are_taken_away(
    field: Field, reclaimer: Reclaimer, clock: ManualClock
) -> None:
    await field.register()
    job = await field.given()
    good = await field.given()
    await field.let_run(job, 40_000)
    await _rounds(reclaimer, clock, LEASE)
    assert await field.lane("retry") == [job.request_id]
    assert await field.complete(good.done()) == [1]


async def test_the_limit_of_a_model_is_what_its_worker_registered(field: Field, reclaimer: Reclaimer) -> None:
    await field.register()
    job = await field.given()
    await field.let_run(job, 40_000)
    (pair,) = await views.serving_of(field.partition)
    patient = views.Serving(pair.worker_id, pair.model, _offer(timeout_ms=600_000))
    assert await reclaimer.take_overdue(patient) == 0
    hasty = views.Serving(pair.worker_id, pair.model, _offer(timeout_ms=1_000))
    assert await reclaimer.take_overdue(hasty) == 1


async def test_it_runs_until_cancelled(field: Field, reclaimer: Reclaimer, clock: ManualClock) -> None:
    await field.register()
    job = await field.given()
    await field.end_lease()
    task = asyncio.create_task(reclaimer.run())
    for _ in range(LEASE + 2):
        await clock.asleep()
        clock.advance(1)

    async def back() -> bool:
        return await field.lane("retry") == [job.request_id]

    await until(back)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


def _offer(timeout_ms: int) -> ModelOffer:
    return ModelOffer(capacity=8, window=16, timeout_ms=timeout_ms)
