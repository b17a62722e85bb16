"""The auditor: walks a little at a time, keeps and says what it found, and mends nothing."""

from __future__ import annotations

import pytest
from harness.clock import ManualClock
from harness.field import Field

from coordinator.core import keys
from coordinator.core.settings import Settings
from coordinator.dispatcher.auditor import Auditor


@pytest.fixture
def auditor(field: Field, settings: Settings, clock: ManualClock) -> Auditor:
    return Auditor(field.partition, settings, clock)


async def kept(field: Field) -> dict[str, int]:
    """What the last walk found, without what it found nothing of."""
    found = await field.redis.hgetall(keys.audit(0))
    return {name.decode(): int(count) for name, count in found.items() if int(count) and name != b"finished_at"}


async def walk(field: Field, auditor: Auditor) -> int:
    """One whole walk; in how many rounds."""
    await field.redis.hdel(keys.audit(0), "finished_at")
    rounds = 0
    while not await field.redis.hexists(keys.audit(0), "finished_at"):
        await auditor.audit()
        rounds += 1
    return rounds


async def test_a_walk_takes_many_short_rounds_and_is_kept(field: Field, auditor: Auditor) -> None:
    await field.register()
    await field.put_many(250)
    assert await walk(field, auditor) >= 6
    assert await kept(field) == {}


async def test_what_it_finds_is_kept_and_not_mended(
    field: Field, auditor: Auditor, caplog: pytest.LogCaptureFixture
) -> None:
    await field.register()
    request_id = await field.put()
    stale = await field.raw_record(request_id)
    await field.assign()
    bucket = keys.results(0, int(request_id.split("-")[1]))
    right = await field.raw_record(request_id)
    await field.redis.hset(bucket, request_id, stale)
    await field.redis.zadd(keys.delayed(0), {"1-1": 1})
    for _ in range(2):
        await walk(field, auditor)
        assert await kept(field) == {"record_elsewhere": 1, "delay_without_parked": 1}
    assert request_id in caplog.text
    await field.redis.hset(bucket, request_id, right)
    await field.redis.delete(keys.delayed(0))
    await walk(field, auditor)
    assert await kept(field) == {}


async def test_one_walk_by_whichever_dispatcher_is_enough(field: Field, auditor: Auditor, settings: Settings) -> None:
    await walk(field, auditor)
    await field.redis.zadd(keys.delayed(0), {"1-1": 1})
    other = Auditor(field.partition, settings, ManualClock())
    assert await other.audit() >= 1.0
    assert await other.audit() >= 1.0
    assert await kept(field) == {}
    await field.redis.delete(keys.delayed(0))
