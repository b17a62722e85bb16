"""assign: round-robin over live workers with room, lane by lane, all inside one step."""

from __future__ import annotations

from collections import Counter

from harness.field import HOUR_MS, Field

from coordinator.core import keys, steps


async def test_jobs_are_dealt_round_robin(both: Field) -> None:
    for worker in ("a", "b", "c"):
        await both.register(worker)
    ids = await both.put_many(9)
    assert await both.assign("a", "b", "c") == (9, 0, "empty")
    assert await both.inbox("a") == ids[0::3]
    assert await both.inbox("b") == ids[1::3]
    assert await both.inbox("c") == ids[2::3]
    record = await both.record(ids[1])
    assert record.status == "assigned"
    assert record.at.startswith("inbox:b:m ")


async def test_the_next_call_goes_on_where_the_last_one_ended(both: Field) -> None:
    for worker in ("a", "b", "c"):
        await both.register(worker)
    for _ in range(7):
        await both.put()
        await both.assign("a", "b", "c")
    assert [len(await both.inbox(worker)) for worker in ("a", "b", "c")] == [3, 2, 2]


async def test_the_lanes_are_emptied_in_order(both: Field) -> None:
    await both.register(m="8:16")
    low, normal, high = [(await both.put_many(2, lane=lane)) for lane in ("low", "normal", "high")]
    retried = await both.put()
    await both.assign(batch=1)  # of the high lane
    (first,) = await both.take()
    assert await both.fail_one(first, "release") == "released"
    await both.assign()
    assert await both.inbox() == [high[0], high[1], *normal, retried, *low]


async def test_nobody_gets_more_than_its_window(both: Field) -> None:
    await both.register("a", m="1:2")
    await both.register("b", m="4:5")
    ids = await both.put_many(10)
    assert await both.assign("a", "b") == (7, 0, "starved")
    assert (len(await both.inbox("a")), len(await both.inbox("b"))) == (2, 5)
    assert await both.lane() == ids[7:]
    assert await both.redis.smembers(keys.starved(0)) == {b"m"}


async def test_read_work_counts_as_long_as_it_is_not_finished(both: Field) -> None:
    await both.register(m="1:2")
    await both.put_many(4)
    await both.assign()
    first, _ = await both.take()
    assert await both.assign() == (0, 0, "starved")
    await both.woken()
    await both.complete(first.done())
    assert await both.woken() == {"m"}
    assert await both.assign() == (1, 0, "starved")


async def test_at_most_a_batch_is_moved(both: Field) -> None:
    await both.register()
    await both.put_many(10)
    assert await both.assign(batch=4) == (4, 0, "more")
    assert await both.assign(batch=6) == (6, 0, "empty")
    assert await both.assign(batch=6) == (0, 0, "empty")


async def test_workers_without_a_lease_or_of_other_models_get_nothing(both: Field) -> None:
    await both.register("late")
    await both.end_lease("late")
    await both.register("other", x="8:8")
    await both.register("good")
    await both.put_many(4)
    await both.assign("late", "other", "good", "never-registered")
    assert len(await both.inbox("good")) == 4


async def test_no_candidates_at_all_leaves_the_jobs_where_they_are(both: Field) -> None:
    await both.register()
    await both.put()
    assert await steps.assign(both.partition, "m", [], batch=10, lifetime_ms=HOUR_MS) == (0, 0, "starved", 1)
    await both.census()


async def test_what_is_past_its_deadline_expires_and_is_given_to_nobody(both: Field) -> None:
    await both.register()
    late = await both.put(ttl=-1)
    good = await both.put(ttl=60_000)
    assert await both.assign() == (1, 1, "empty")
    assert await both.inbox() == [good]
    record = await both.record(late)
    assert (record.status, record.attempts) == ("expired", 0)
    assert record.finished_at is not None


async def test_expired_jobs_take_no_room(both: Field) -> None:
    await both.register(m="1:1")
    await both.put(ttl=-1)
    await both.put()
    assert await both.assign() == (0, 1, "more")
    assert await both.assign() == (1, 0, "empty")


async def test_a_job_past_the_longest_lifetime_expires_on_any_attempt(both: Field) -> None:
    await both.register()
    job = await both.given()
    await both.fail_one(job)
    assert await both.assign(lifetime_ms=-1) == (0, 1, "empty")
    record = await both.record(job.request_id)
    assert (record.status, record.attempts) == ("expired", 1)


async def test_an_expired_job_takes_its_large_input_along(both: Field) -> None:
    await both.register()
    await both.put(ttl=-1, blob=b'"large"')
    await both.assign()
    await both.census()


async def test_the_same_with_hundred_candidates(field: Field) -> None:
    workers = [f"w{i}" for i in range(100)]
    for worker in workers:
        await field.register(worker, m="1:2")
    await field.put_many(250)
    assert await field.assign(*workers) == (200, 0, "starved")
    records = await field.census()
    held = Counter(record.at.split(":")[1] for record in records.values() if record.status == "assigned")
    assert set(held.values()) == {2}
    assert len(held) == 100


async def test_it_goes_on_after_the_group_was_lost(field: Field) -> None:
    """As after a FLUSHALL with producers at work: the group is made again, and starts at the oldest entry."""
    await field.register()
    await field.put_many(2)
    await field.assign()
    await field.put_many(2)
    await field.redis.xgroup_destroy(keys.jobs(0, "m", "normal"), keys.JOBS_GROUP)
    assert await field.assign() == (2, 0, "empty")


async def test_an_entry_that_was_read_by_a_stranger_does_not_make_it_spin(field: Field) -> None:
    """Reading a lane by hand hides the entry from the group. That must not look like work that can be moved."""
    await field.register()
    request_id = await field.put()
    await field.assign("nobody")
    await field.redis.xgroup_create(keys.jobs(0, "m", "normal"), keys.JOBS_GROUP, "$")
    assert (await field.assign()).state == "empty"
    await field.redis.xgroup_setid(keys.jobs(0, "m", "normal"), keys.JOBS_GROUP, "0")
    await field.assign()
    assert await field.inbox() == [request_id]
