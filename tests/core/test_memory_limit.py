"""At Redis's memory limit: new work is refused, and all that ends or moves old work still goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from harness.field import KEEP, Field
from harness.redis import RedisServer

from coordinator.core import keys, steps
from coordinator.core.connection import Connections
from coordinator.core.errors import MemoryPressure
from coordinator.core.settings import Settings


@pytest.fixture
async def full(own_redis: RedisServer) -> AsyncIterator[Field]:
    """A partition whose Redis can be put at its limit by `_fill`."""
    settings = Settings(redis_url=own_redis.url())
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        yield field
        await field.census()


async def _fill(field: Field) -> None:
    await field.redis.config_set("maxmemory", 1)


async def _free(field: Field) -> None:
    await field.redis.config_set("maxmemory", 0)


async def test_new_work_is_refused_whole(full: Field) -> None:
    await full.register()
    dead = await full.buried()
    job = await full.submission()
    await _fill(full)
    with pytest.raises(MemoryPressure):
        await full.submit(job)
    with pytest.raises(MemoryPressure):
        await full.put(delay=1000)
    with pytest.raises(MemoryPressure):
        await steps.retry_dead(full.partition, dead, full.request_id(await full.now_ms()), **KEEP)
    assert await full.lane() == []
    assert await full.redis.xlen(keys.dead(0)) == 1


async def test_a_resend_is_known(full: Field) -> None:
    await full.register()
    job = await full.submission()
    await full.submit(job)
    await _fill(full)
    (receipt,) = await full.submit(job)
    assert receipt.outcome == "duplicate"


async def test_old_work_goes_its_way(full: Field) -> None:
    await full.register("w", m="20:20")
    ids = await full.put_many(8)
    delayed = await full.put(delay=60_000)
    late = await full.put(lane="low", ttl=-1)
    await full.fall_due()
    await _fill(full)
    await steps.read(full.partition, ids, channel="one", wait_ms=1000)
    assert (await full.promote()).moved == 1
    assert (await steps.expire(full.partition, "m", "low", lifetime_ms=3_600_000)).expired == 1
    assert await full.assign(batch=7) == (7, 0, "more")
    jobs = await full.take()
    assert await full.complete(jobs[0].done(), jobs[1].done("x" * 5000, b"o")) == [1, 1]
    assert await full.fail_one(jobs[2]) == "retrying"
    assert await full.fail_one(jobs[3], delay_ms=1000) == "retrying"
    assert await full.fail_one(jobs[4], "final") == "dead"
    assert (await steps.cancel(full.partition, jobs[5].request_id)).outcome == "cancelled"
    await _free(full)
    await full.let_run(jobs[6], 60_000)
    await _fill(full)
    assert (await full.overdue()).requeued == 1
    assert await full.assign() == (4, 0, "empty")
    await full.register("other", m="20:20")
    assert (await steps.rebalance(full.partition, "m", ["w", "other"], stuck_after_ms=-1)).moved == 4
    assert await steps.heartbeat(full.partition, "other", "1", lease_ms=60_000) == "live"
    await _free(full)
    await full.end_lease("other")
    await _fill(full)
    assert (await full.reclaim("other")).requeued == 4
    assert await steps.rouse(full.partition) == 1
    assert await steps.drain(full.partition, "w")
    assert await steps.prune_dead(full.partition, retention_ms=-1, max_dead=10) == 1
    assert await full.statuses((delayed, late)) == ["queued", "expired"]


async def test_a_model_without_room_is_marked_starved(full: Field) -> None:
    await full.register(m="1:1")
    await full.put_many(2)
    await full.assign()
    await full.redis.delete(keys.starved(0))
    await _fill(full)
    assert (await full.assign()).state == "starved"
    assert await full.redis.sismember(keys.starved(0), "m")
