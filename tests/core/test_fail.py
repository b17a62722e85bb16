"""fail: another try after a wait, the dead letters, or handed back."""

from __future__ import annotations

import pytest
from harness.field import Field

from coordinator.core import keys
from coordinator.core.records import decode_problem
from coordinator.core.steps import Failure


async def test_a_retry_waits_and_then_goes_first(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.fail_one(job, delay_ms=60_000) == "retrying"
    record = await both.record(job.request_id)
    assert (record.status, record.attempts) == ("retrying", 1)
    assert record.error is not None
    assert record.error.message == 'no "luck"'
    assert (await both.promote()).moved == 0
    await both.fall_due()
    assert (await both.promote()).moved == 1
    assert await both.lane("retry") == [job.request_id]
    await both.assign()
    (again,) = await both.take()
    assert (again.request_id, again.attempt, again.input) == (job.request_id, 2, job.input)


async def test_a_retry_without_a_wait_goes_straight_to_its_lane(both: Field) -> None:
    await both.register()
    job = await both.given()
    await both.woken()
    assert await both.fail_one(job) == "retrying"
    assert await both.lane("retry") == [job.request_id]
    assert await both.woken() == {"m"}


@pytest.mark.parametrize(("head", "allowed"), [("", 3), ('"max_attempts":1', 1), ('"max_attempts":5', 5)])
async def test_when_the_attempts_are_used_up_it_is_a_dead_letter(both: Field, head: str, allowed: int) -> None:
    await both.register()
    request_id = await both.put(head=head, blob=b'"large"')
    for attempt in range(1, allowed + 1):
        await both.assign()
        (job,) = await both.take()
        assert job.attempt == attempt
        assert await both.fail_one(job) == ("retrying" if attempt < allowed else "dead")
    record = await both.record(request_id)
    assert (record.status, record.attempts, record.worker_id) == ("failed", allowed, "w")
    ((entry, fields),) = await both.redis.xrange(keys.dead(0))
    assert (fields[b"id"].decode(), fields[b"reason"], fields[b"attempts"]) == (
        request_id,
        b"attempts",
        b"%d" % allowed,
    )
    assert record.dead_letter == entry.decode()


async def test_a_final_failure_is_not_tried_again(both: Field) -> None:
    await both.register()
    request_id = await both.buried()
    assert (await both.record(request_id)).status == "failed"
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert fields[b"reason"] == b"final"


async def test_what_is_handed_back_uses_no_attempt(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.fail_one(job, "release") == "released"
    record = await both.record(job.request_id)
    assert (record.status, record.attempts) == ("queued", 0)
    await both.assign()
    (again,) = await both.take()
    assert again.attempt == 1


async def test_what_expired_unstarted_ends(both: Field) -> None:
    await both.register()
    job = await both.given(blob=b'"large"')
    assert await both.fail_one(job, "expired") == "expired"
    assert (await both.record(job.request_id)).status == "expired"


async def test_a_retry_that_would_come_after_the_longest_lifetime_is_a_dead_letter(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.fail_one(job, delay_ms=10_000, lifetime_ms=9_000) == "dead"
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert fields[b"reason"] == b"lifetime"


async def test_failing_twice_or_after_completing_is_stale(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.fail_one(job) == "retrying"
    assert await both.fail_one(job) == "stale"
    await both.assign()
    (again,) = await both.take()
    await both.complete(again.done())
    assert await both.fail_one(again, "final") == "stale"
    assert await both.fail_one(job, "release") == "stale"
    assert (await both.record(job.request_id)).status == "succeeded"


async def test_the_same_entry_twice_in_one_call_counts_once(both: Field) -> None:
    await both.register()
    job = await both.given()
    failure = Failure(job.entry, "release", 0)
    assert await both.fail(failure, failure) == ["released", "stale"]


@pytest.mark.parametrize(("kind", "delay_ms"), [("final", 0), ("retry", 0), ("retry", 1000)])
async def test_a_failure_without_a_reason_leaves_a_readable_record(both: Field, kind: str, delay_ms: int) -> None:
    await both.register()
    job = await both.given()
    await both.fail(Failure(job.entry, kind, delay_ms))
    await both.record(job.request_id)
    for _, fields in await both.redis.xrange(keys.dead(0)):
        assert decode_problem(fields[b"error"]).type


async def test_a_failure_makes_room_and_wakes_a_starved_model(both: Field) -> None:
    await both.register(m="1:1")
    await both.put_many(2)
    await both.assign()
    (job,) = await both.take()
    await both.woken()
    await both.fail_one(job, "final")
    assert await both.woken() == {"m"}


async def test_an_entry_that_somebody_deleted_by_hand_does_not_hurt_the_others(field: Field) -> None:
    await field.register()
    await field.put_many(2)
    await field.assign()
    first, second = await field.take()
    await field.redis.xdel(keys.inbox(0, "w", "m"), second.entry)
    answers = await field.fail(Failure(first.entry, "release", 0), Failure(second.entry, "release", 0))
    assert answers == ["released", "stale"]
    await field.redis.hdel(keys.results(0, int(second.request_id.split("-")[1])), second.request_id)
