"""The janitor: removes what outlived its retention, and guards the memory limit."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from harness.clock import ManualClock
from harness.field import HOUR_MS, Field
from harness.redis import RedisServer

from coordinator.core import keys, steps
from coordinator.core.connection import Connections
from coordinator.core.errors import MemoryPressure
from coordinator.core.records import NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.dispatcher.janitor import Janitor


@pytest.fixture
def janitor(field: Field, settings: Settings, clock: ManualClock) -> Janitor:
    return Janitor(field.partition, settings, clock)


async def test_results_go_after_their_time_and_not_before(field: Field, settings: Settings, clock: ManualClock) -> None:
    await field.register()
    job = await field.given()
    await field.complete(job.done())
    bucket = int(job.request_id.split("-")[1])
    kept = settings.max_job_lifetime + settings.result_retention
    old = int((await field.now_ms() / 1000 - kept) // keys.BUCKET_SECONDS)
    for number in (old - 20, old - 3, old - 2):
        await field.redis.hset(keys.results(0, number), "0-1-aaaaaaaaaaaaaaaa", "{}")
    await Janitor(field.partition, settings, clock).sweep()
    there = [await field.redis.exists(keys.results(0, number)) for number in (old - 20, old - 3, old - 2, bucket)]
    assert there == [0, 0, 1, 1]
    await field.redis.delete(keys.results(0, old - 2))


async def test_dead_letters_go_by_age_and_by_number(field: Field, settings: Settings, clock: ManualClock) -> None:
    await field.register()
    ids = [await field.buried() for _ in range(4)]
    few = settings.model_copy(update={"max_dead": 3})
    await Janitor(field.partition, few, clock).sweep()
    assert await field.redis.hkeys(keys.dead_index(0)) == [i.encode() for i in ids[1:]]
    await Janitor(field.partition, settings.model_copy(update={"dead_retention": -1.0}), clock).sweep()
    assert await field.redis.xlen(keys.dead(0)) == 0


async def test_workers_lost_long_ago_are_forgotten(field: Field, janitor: Janitor) -> None:
    await field.register("lost")
    await field.register("live")
    await field.end_lease("lost")
    await janitor.sweep()
    assert await field.redis.zrange(keys.workers(0), 0, -1) == [b"live"]


async def test_forgotten_waiters_go_and_others_stay(field: Field, janitor: Janitor) -> None:
    await field.register()
    forgotten, waiting, both = await field.put_many(3)
    await steps.read(field.partition, [forgotten], channel="a", wait_ms=-1000)
    await steps.read(field.partition, [waiting, both], channel="a", wait_ms=HOUR_MS)
    await field.redis.hset(keys.waiters(0), both, "a@1,b@99999999999999")
    await janitor.sweep()
    assert set(await field.redis.hkeys(keys.waiters(0))) == {waiting.encode(), both.encode()}


async def test_a_wrong_clock_of_its_host_does_not_matter(field: Field, janitor: Janitor) -> None:
    """The host is an hour ahead of Redis: those who wait are not forgotten for that."""
    await field.register()
    request_id = await field.put()
    field.partition.time.learn(await field.now_ms() + HOUR_MS)
    await steps.read(field.partition, [request_id], channel="a", wait_ms=60_000)
    await janitor.sweep()
    assert await field.redis.hexists(keys.waiters(0), request_id)


async def test_it_sweeps_now_and_then_and_looks_at_the_memory_each_time(
    field: Field, janitor: Janitor, clock: ManualClock
) -> None:
    task = asyncio.create_task(janitor.run())
    await clock.asleep()
    await field.register()
    await field.end_lease()
    for _ in range(8):
        clock.advance(1)
        await clock.asleep()
    assert await field.redis.exists(keys.worker(0, "w"))
    for _ in range(3):
        clock.advance(1)
        await clock.asleep()
    assert not await field.redis.exists(keys.worker(0, "w"))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_beyond_the_memory_limit_it_sweeps_all_the_same(own_redis: RedisServer, clock: ManualClock) -> None:
    settings = Settings(redis_url=own_redis.url(), max_dead=3)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        for _ in range(5):
            await field.buried()
        await field.redis.config_set("maxmemory", 1)
        await Janitor(field.partition, settings, clock).tidy()
        assert await field.redis.xlen(keys.dead(0)) == 3
        await field.redis.config_set("maxmemory", 0)


async def test_near_the_memory_limit_new_jobs_are_refused_until_there_is_room(
    own_redis: RedisServer, clock: ManualClock
) -> None:
    settings = Settings(redis_url=own_redis.url(), max_memory_percent=50)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        janitor = Janitor(field.partition, settings, clock)
        submitter = Submitter(connections, settings)
        await field.register()
        await janitor.gauge()
        await submitter.submit(NewJob(model="m", input=b"0"))
        used = int((await field.redis.info("memory"))["used_memory"])
        await field.redis.config_set("maxmemory", used + used // 2)
        await janitor.gauge()
        with pytest.raises(MemoryPressure):
            await submitter.submit(NewJob(model="m", input=b"0"))
        assert await field.redis.pttl(keys.pressure(0)) > 0
        await field.redis.config_set("maxmemory", used * 10)
        await janitor.gauge()
        await field.redis.delete(keys.pressure(0))  # it goes by its TTL
        await submitter.submit(NewJob(model="m", input=b"0"))
