"""overdue: a live worker loses what it has held for too long."""

from __future__ import annotations

import pytest
from harness.field import Field

from coordinator.core import keys, steps
from coordinator.core.records import decode_problem


async def test_a_job_within_its_limit_stays(both: Field) -> None:
    await both.register()
    job = await both.given(head='"timeout_ms":600000')
    default = await both.given()
    await both.let_run(job, 500_000)
    await both.let_run(default, 31_000)
    assert await both.overdue() == (0, 0, "")
    assert await both.complete(job.done(), default.done()) == [1, 1]


@pytest.mark.parametrize(("head", "ran_ms"), [("", 32_500), ('"timeout_ms":100', 2_500)])
async def test_a_job_past_its_limit_and_the_grace_goes_to_somebody_else(both: Field, head: str, ran_ms: int) -> None:
    await both.register()
    job = await both.given(head=head)
    await both.let_run(job, ran_ms)
    assert await both.overdue() == (1, 0, "")
    assert await both.complete(job.done()) == [0]
    record = await both.record(job.request_id)
    assert (record.status, record.attempts) == ("retrying", 1)
    assert await both.lane("retry") == [job.request_id]


async def test_the_last_attempt_ends_in_a_dead_letter(both: Field) -> None:
    await both.register()
    job = await both.given(head='"max_attempts":1', blob=b'"large"')
    await both.let_run(job, 60_000)
    assert await both.overdue() == (0, 1, "")
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert fields[b"reason"] == b"attempts"
    assert decode_problem(fields[b"error"]).type == "timeout"
    assert (await both.record(job.request_id)).status == "failed"


async def test_past_the_longest_lifetime_it_ends_whatever_its_limit_is(both: Field) -> None:
    await both.register()
    job = await both.given(head='"timeout_ms":3600000')
    await both.let_run(job, 10_000)
    assert await both.overdue(lifetime_ms=-10_000) == (0, 1, "")
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert fields[b"reason"] == b"lifetime"


async def test_a_dead_letter_makes_room_for_a_starved_model(both: Field) -> None:
    await both.register(m="1:1")
    job = await both.given(head='"max_attempts":1')
    await both.put()
    await both.assign()
    await both.woken()
    await both.let_run(job, 60_000)
    await both.overdue()
    assert await both.woken() == {"m"}


async def test_it_goes_on_from_its_cursor(both: Field) -> None:
    await both.register(m="50:50")
    await both.put_many(5)
    await both.assign()
    for job in await both.take():
        await both.let_run(job, 60_000)
    first = await both.overdue(count=3)
    assert first.requeued == 3
    assert first.cursor
    assert await both.overdue(count=3, cursor=first.cursor) == (2, 0, "")


async def test_a_worker_or_model_that_is_not_there(both: Field) -> None:
    assert await both.overdue("nobody") == (0, 0, "")


async def _age(field: Field, worker: str = "w") -> None:
    """Let a long time pass since the entries of an inbox were added, by giving them old entry ids."""
    inbox = keys.inbox(0, worker, "m")
    rows = await field.redis.xrange(inbox)
    await field.redis.delete(inbox)
    await field.redis.xgroup_create(inbox, keys.INBOX_GROUP, "0", mkstream=True)
    for i, (_, fields) in enumerate(rows):
        await field.redis.xadd(inbox, fields, id=f"1000-{i}")
        request_id = fields[b"id"].decode()
        raw = await field.raw_record(request_id)
        assert raw is not None
        old = raw.split(b'"at":"')[1].split(b'"')[0]
        bucket = keys.results(0, int(request_id.split("-")[1]))
        await field.redis.hset(bucket, request_id, raw.replace(old, f"inbox:{worker}:m 1000-{i}".encode()))


async def test_a_worker_that_takes_no_work_loses_what_it_has_not_read(both: Field) -> None:
    """Its loop hangs while its heartbeats go on, or it drains: nobody else would ever look at these jobs."""
    await both.register()
    ids = await both.put_many(3)
    await both.assign()
    await _age(both)
    assert await both.overdue() == (0, 0, "")
    await steps.heartbeat(both.partition, "w", "1", lease_ms=60_000, taking=False)
    assert await both.overdue() == (3, 0, "")
    assert await both.lane("retry") == ids
    assert await both.statuses(ids) == ["queued"] * 3
    assert {(await both.record(i)).attempts for i in ids} == {0}


async def test_a_draining_worker_keeps_what_it_has_read(both: Field) -> None:
    await both.register()
    ids = await both.put_many(3)
    await both.assign()
    await _age(both)
    (first,) = await both.take(count=1)
    await steps.drain(both.partition, "w")
    assert await both.overdue() == (2, 0, "")
    assert await both.inbox() == [first.request_id]
    assert await both.lane("retry") == ids[1:]
    assert await both.complete(first.done()) == [1]


async def test_what_was_only_just_given_to_it_stays_for_the_grace(both: Field) -> None:
    await both.register()
    await both.put()
    await both.assign()
    await steps.drain(both.partition, "w")
    assert await both.overdue() == (0, 0, "")
    assert len(await both.take()) == 1


async def test_unread_jobs_past_their_deadline_expire_at_any_worker(both: Field) -> None:
    await both.register()
    late = await both.put(ttl=60_000)
    good = await both.put()
    await both.assign()
    await _age(both)
    assert await both.overdue() == (0, 0, "")
    assert await both.overdue(lifetime_ms=-10_000) == (2, 0, "")
    assert await both.statuses((late, good)) == ["expired", "expired"]
    assert await both.inbox() == []
