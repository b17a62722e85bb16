"""reclaim: all that a lost worker holds comes back, and only those that ran are blamed."""

from __future__ import annotations

import pytest
from harness.field import Field, Taken

from coordinator.core import keys
from coordinator.core.records import decode_problem


async def _die(field: Field, worker: str) -> None:
    await field.end_lease(worker)
    await field.reclaim(worker)


async def _suspect(field: Field) -> str:
    """A job on which the worker `first` died."""
    await field.register("first")
    job = await field.given("first")
    await _die(field, "first")
    return job.request_id


async def test_delivered_entries_count_an_attempt_and_unread_ones_do_not(both: Field) -> None:
    await both.register()
    ran = await both.given()
    unread = await both.put()
    await both.assign()
    await both.end_lease()
    assert await both.reclaim() == (2, 0, False)
    assert await both.lane("retry") == [ran.request_id, unread]
    assert [(await both.record(i)).attempts for i in (ran.request_id, unread)] == [1, 0]
    assert await both.statuses((ran.request_id, unread)) == ["retrying", "queued"]
    assert not await both.redis.exists(keys.inbox(0, "w", "m"))


async def test_a_live_worker_is_left_alone(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.reclaim() == (0, 0, False)
    assert await both.complete(job.done()) == [1]


async def test_a_worker_that_nobody_knows(both: Field) -> None:
    await both.redis.zadd(keys.workers(0), {"ghost": 1})
    assert await both.reclaim("ghost") == (0, 0, False)
    assert await both.redis.zscore(keys.workers(0), "ghost") is None


async def test_retiring_takes_all_back_without_blame_and_ends_the_worker(both: Field) -> None:
    await both.register()
    ran = await both.given()
    assert await both.reclaim(retire=True) == (1, 0, False)
    assert (await both.record(ran.request_id)).attempts == 0
    assert await both.complete(ran.done()) == [0]
    for key in (keys.worker(0, "w"), keys.workers(0), keys.serving(0, "m"), keys.inbox(0, "w", "m")):
        assert not await both.redis.exists(key), key
    await both.register("other")
    await both.assign("other")
    (again,) = await both.take("other")
    assert (again.attempt, again.crashed) == (1, ())


async def test_it_goes_on_in_pieces(both: Field) -> None:
    await both.register(m="50:50")
    await both.put_many(10)
    await both.assign()
    assert len(await both.take(count=5)) == 5
    await both.end_lease()
    calls = [await both.reclaim(count=3) for _ in range(4)]
    assert [call.requeued for call in calls] == [3, 3, 3, 1]
    assert [call.more for call in calls] == [True, True, True, False]
    assert len(await both.lane("retry")) == 10


async def test_half_retired_worker_is_finished_by_the_next_reclaim(both: Field) -> None:
    """As when the process that retired it died in between."""
    await both.register()
    await both.put_many(4)
    await both.assign()
    await both.take(count=3)
    assert (await both.reclaim(retire=True, count=2)).more
    assert await both.reclaim() == (2, 0, False)
    assert not await both.redis.exists(keys.worker(0, "w"))
    await both.register("other")
    await both.assign("other")
    assert {job.attempt for job in await both.take("other")} == {1}


async def test_what_was_delivered_and_marked_as_not_started_is_not_blamed(both: Field) -> None:
    """Whatever the order of the entries, over all the models of the worker."""
    suspect = await _suspect(both)
    await both.register("second", models={"m": "4:8", "x": "4:8"})
    innocent = await both.put("x")
    await both.assign("second", model="x")
    await both.assign("second")
    (waits,) = await both.take("second", "x")
    (runs,) = await both.take("second")
    assert (waits.request_id, runs.request_id) == (innocent, suspect)
    inbox = keys.inbox(0, "second", "x")
    await both.redis.xclaim(inbox, keys.INBOX_GROUP, "second", 0, [waits.entry], retrycount=0, justid=True)
    await _die(both, "second")
    assert [(await both.record(i)).attempts for i in (suspect, innocent)] == [2, 0]
    assert (await both.redis.xrange(keys.jobs(0, "x", "retry")))[0][1].get(b"crashed") is None


async def _crash_on(field: Field, worker: str) -> Taken:
    await field.register(worker)
    await field.assign(worker)
    (job,) = await field.take(worker)
    await field.end_lease(worker)
    return job


async def test_crashes_and_failures_are_counted_apart(both: Field) -> None:
    await both.register("start")
    request_id = await both.put()
    await both.reclaim("start", retire=True)
    for worker in ("a", "b"):
        await _crash_on(both, worker)
        assert (await both.reclaim(worker)).dead == 0
    await both.register("good")
    for attempt in (3, 4, 5):
        await both.assign("good")
        (job,) = await both.take("good")
        assert (job.attempt, job.crashed) == (attempt, ("a", "b"))
        assert await both.fail_one(job, worker="good") == ("dead" if attempt == 5 else "retrying")
    record = await both.record(request_id)
    assert (record.attempts, record.crashed_workers) == (5, ["a", "b"])


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_job_that_took_down_so_many_workers_is_poison(both: Field, limit: int) -> None:
    await both.register("start")
    request_id = await both.put(blob=b'"poison"')
    await both.reclaim("start", retire=True)
    workers = [f"w{i}" for i in range(limit)]
    for worker in workers:
        assert await both.lane("retry") + await both.lane() == [request_id]
        await _crash_on(both, worker)
        await both.reclaim(worker, max_crashes=limit)
    record = await both.record(request_id)
    assert (record.status, record.attempts, record.crashed_workers) == ("failed", limit, workers)
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert (fields[b"reason"], fields[b"crashed"]) == (b"poison", ",".join(workers).encode())
    assert decode_problem(fields[b"error"]).type == "poison"


async def test_all_that_ran_is_blamed_once_however_many_calls_it_takes(both: Field) -> None:
    await both.register(m="50:50")
    await both.put_many(6)
    await both.assign()
    jobs = await both.take()
    await both.end_lease()
    while (await both.reclaim(count=4)).more:
        pass
    assert [(await both.record(job.request_id)).attempts for job in jobs] == [1] * 6


async def test_a_worker_of_two_models_comes_back_whole(both: Field) -> None:
    await both.register(m="4:8", x="4:8")
    ids = [await both.put("m"), await both.put("x"), await both.put("x")]
    await both.assign(model="m")
    await both.assign(model="x")
    await both.take(model="x", count=1)
    await both.end_lease()
    assert await both.reclaim() == (3, 0, False)
    assert await both.lane("retry", "m") == ids[:1]
    assert sorted(await both.lane("retry", "x")) == sorted(ids[1:])


async def test_what_is_past_its_deadline_expires_instead(both: Field) -> None:
    await both.register()
    await both.put(ttl=60_000)
    late = await both.put()
    await both.assign()
    await both.end_lease()
    assert await both.reclaim(lifetime_ms=-1) == (2, 0, False)
    assert (await both.record(late)).status == "expired"
    assert await both.lane("retry") == []


async def test_it_wakes_those_who_can_do_the_work(both: Field) -> None:
    await both.register()
    await both.given()
    await both.end_lease()
    await both.woken()
    await both.reclaim()
    assert await both.woken() == {"m"}
