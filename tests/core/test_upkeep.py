"""promote, expire and rouse: what time asks for."""

from __future__ import annotations

from harness.field import HOUR_MS, Field

from coordinator.core import keys, steps


async def _expire(field: Field, lane: str = "normal", *, cursor: str = "", count: int = 500) -> steps.Expired:
    return await steps.expire(field.partition, "m", lane, cursor=cursor, count=count, lifetime_ms=HOUR_MS)


async def test_promote_moves_what_is_due_to_the_lane_it_was_meant_for(both: Field) -> None:
    await both.register()
    high = await both.put(lane="high", delay=60_000, data=b'"x"')
    low = await both.put(lane="low", delay=50_000)
    later = await both.promote()
    assert later.moved == 0
    assert 40_000 < later.next_in_ms <= 50_000
    await both.fall_due()
    await both.woken()
    assert await both.promote() == (2, -1)
    assert (await both.lane("high"), await both.lane("low")) == ([high], [low])
    assert await both.statuses((high, low)) == ["queued", "queued"]
    assert await both.woken() == {"m"}
    await both.assign()
    assert [(job.request_id, job.attempt, job.input) for job in await both.take()] == [(high, 1, "x"), (low, 1, 0)]


async def test_promote_says_that_there_is_more(both: Field) -> None:
    await both.register()
    for _ in range(3):
        await both.put(delay=60_000)
    await both.fall_due()
    assert await both.promote(count=2) == (2, 0)
    assert await both.promote(count=2) == (1, -1)


async def test_promote_ends_what_is_past_its_deadline(both: Field) -> None:
    await both.register()
    late = await both.put(delay=60_000, ttl=-1, blob=b'"large"')
    await both.fall_due()
    await both.promote()
    assert (await both.record(late)).status == "expired"
    assert await both.lane() == []


async def test_expire_ends_jobs_that_nobody_takes(both: Field) -> None:
    await both.register()
    good = await both.put()
    late = await both.put(ttl=-1, blob=b'"large"')
    assert await _expire(both) == (1, "")
    assert (await both.record(late)).status == "expired"
    assert await both.lane() == [good]


async def test_expire_goes_on_from_its_cursor(both: Field) -> None:
    await both.register()
    for ttl in (-1, 60_000, -1, -1):
        await both.put(ttl=ttl)
    first = await _expire(both, count=2)
    assert first.expired == 1
    assert first.cursor
    second = await _expire(both, cursor=first.cursor, count=2)
    assert second.expired == 2
    assert await _expire(both, cursor=second.cursor, count=2) == (0, "")


async def test_a_retried_job_has_until_the_longest_lifetime(both: Field) -> None:
    """Its own deadline was about its first start."""
    await both.register()
    job = await both.given(ttl=60_000)
    await both.fail_one(job)
    assert await _expire(both, "retry") == (0, "")


async def test_rouse_wakes_models_that_have_work_and_workers(both: Field) -> None:
    await both.register("a", both="1:1", idle="1:1")
    await both.register("b", away="1:1")
    await both.put("both")
    await both.put("away")
    await both.reclaim("b", retire=True)
    await both.woken()
    assert await steps.rouse(both.partition) == 1
    assert await both.woken() == {"both"}


async def test_rouse_keeps_the_place_of_who_waits_already(both: Field) -> None:
    await both.register()
    await both.put()
    await both.redis.zadd(keys.wake(0), {"m": 5})
    await steps.rouse(both.partition)
    assert await both.redis.zscore(keys.wake(0), "m") == 5


async def test_the_lanes_that_have_jobs(both: Field) -> None:
    await both.register(models={"m": "1:1", "n": "1:1"})
    assert await steps.waiting(both.partition) == []
    await both.put("n", "high")
    await both.put("m")
    assert sorted(await steps.waiting(both.partition)) == [("m", "normal"), ("n", "high")]
