"""complete: an outcome is written once, by whoever has the entry."""

from __future__ import annotations

import msgspec
import pytest
from harness.field import Field, taken

from coordinator.core import keys, names, steps


async def test_an_outcome_is_written_and_the_entry_is_gone(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.complete(job.done({"label": 7})) == [1]
    record = await both.record(job.request_id)
    assert (record.status, record.worker_id, record.attempts) == ("succeeded", "w", 1)
    assert isinstance(record.output, msgspec.Raw)
    assert msgspec.json.decode(record.output) == {"label": 7}
    assert await both.inbox() == []
    assert await both.redis.xlen(keys.inbox(0, "w", "m")) == 0


async def test_many_at_once_and_each_is_told_apart(both: Field) -> None:
    await both.register()
    await both.put_many(4)
    await both.assign()
    jobs = await both.take()
    await both.complete(jobs[0].done())
    assert await both.fail_one(jobs[1], "final") == "dead"
    answers = await both.complete(*(job.done(job.input, b"o" if job.input == 3 else b"") for job in jobs[1:]))
    assert answers == [0, 1, 1]
    assert await both.statuses(job.request_id for job in jobs) == ["succeeded", "failed", "succeeded", "succeeded"]


async def test_the_same_call_again_says_so_and_changes_nothing(both: Field) -> None:
    """As after a lost reply."""
    await both.register()
    job = await both.given()
    await both.complete(job.done())
    before = await both.raw_record(job.request_id)
    assert await both.complete(job.done()) == [2]
    assert await both.complete(job.done(2)) == [0]
    assert await both.raw_record(job.request_id) == before


async def test_one_entry_twice_in_one_call_counts_once(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert (await both.complete(job.done(1), job.done(2)))[0] == 1
    assert msgspec.json.decode(_output(await both.raw_record(job.request_id))) == 1


async def test_an_entry_that_was_never_read_can_not_be_completed(both: Field) -> None:
    await both.register()
    request_id = await both.put()
    await both.assign()
    ((entry, flat),) = await both.redis.xrange(keys.inbox(0, "w", "m"))
    job = taken(entry, [part for pair in flat.items() for part in pair])
    assert await both.complete(job.done()) == [0]
    assert (await both.record(request_id)).status == "assigned"


async def test_a_worker_that_lost_its_job_to_another_is_stale(both: Field) -> None:
    await both.register("a")
    await both.register("b")
    lost = await both.given("a")
    await both.end_lease("a")
    await both.reclaim("a")
    await both.assign("b")
    (job,) = await both.take("b")
    assert job.request_id == lost.request_id
    assert await both.complete(lost.done("a's"), worker="a") == [0]
    assert (await both.record(job.request_id)).status == "assigned"
    assert await both.complete(job.done("b's"), worker="b") == [1]
    assert await both.complete(lost.done("a's"), worker="a") == [0]
    record = await both.record(job.request_id)
    assert (record.worker_id, record.attempts) == ("b", 2)


async def test_another_worker_or_model_with_the_same_entry_is_stale(both: Field) -> None:
    await both.register("a", m="4:4", x="4:4")
    await both.register("b")
    job = await both.given("a")
    assert await both.complete(job.done(), worker="b") == [0]
    assert await both.complete(job.done(), worker="a", model="x") == [0]
    assert await both.complete(job.done(), worker="nobody") == [0]
    assert await both.complete(job.done(), worker="a") == [1]


async def test_the_first_life_of_an_id_can_not_complete_for_the_second(both: Field) -> None:
    await both.register(incarnation="1")
    old = await both.given()
    assert await both.register(incarnation="2") is False
    await both.reclaim()
    assert await both.register(incarnation="2")
    await both.assign()
    (new,) = await both.take()
    assert new.request_id == old.request_id
    assert new.entry != old.entry
    assert await both.complete(old.done("old")) == [0]
    assert await both.complete(new.done("new")) == [1]


async def test_a_large_output_lies_out_of_line_as_long_as_its_record(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await both.complete(job.done("x" * 3000, b"o")) == [1]
    record = await both.record(job.request_id)
    assert record.output_bytes == 3002
    bucket = names.parse_request_id(job.request_id, 1).bucket
    before = await both.redis.pttl(keys.results(0, bucket))
    kept = await both.redis.pttl(keys.blob(0, job.request_id, "out"))
    after = await both.redis.pttl(keys.results(0, bucket))
    # For fakeredis time goes on while the script runs, and it rounds.
    assert after - 1 <= kept <= before + 1000


async def test_a_large_input_goes_with_the_job(both: Field) -> None:
    await both.register()
    job = await both.given(blob=b'"large"')
    assert await both.complete(job.done(1, b"i")) == [1]
    assert not await both.redis.exists(keys.blob(0, job.request_id, "in"))


@pytest.mark.parametrize("flags", [b"", b"o"])
async def test_a_bucket_that_is_gone_is_not_made_again(both: Field, flags: bytes) -> None:
    await both.register()
    job = await both.given()
    bucket = keys.results(0, names.parse_request_id(job.request_id, 1).bucket)
    await both.redis.delete(bucket)
    assert await both.complete(job.done(1, flags)) == [1]
    assert not await both.redis.exists(bucket)
    assert not await both.redis.exists(keys.blob(0, job.request_id, "out"))


def _output(raw: bytes | None) -> bytes:
    assert raw is not None
    return raw.split(b'"output":')[1][:-1]


async def test_all_kinds_of_entries_in_one_call(both: Field) -> None:
    """Held, cancelled, done before, never read, and named twice: each gets its own answer."""
    await both.register()
    await both.put_many(5)
    await both.assign()
    held, cancelled, done, large = await both.take(count=4)
    await steps.cancel(both.partition, cancelled.request_id)
    await both.complete(done.done())
    (unread,) = [entry for entry, _ in await both.redis.xrange(keys.inbox(0, "w", "m"), f"({large.entry.decode()}")]
    answers = await both.complete(
        held.done(),
        cancelled.done(),
        done.done(),
        held.done()._replace(entry=unread),
        large.done(2, b"o"),
        large.done(3),
        held.done(9),
    )
    assert answers == [1, 0, 2, 0, 1, 0, 0]


async def test_neighbours_are_cut_off_and_what_stands_behind_stays(both: Field) -> None:
    await both.register()
    await both.put_many(6)
    await both.assign()
    jobs = await both.take(count=5)
    assert await both.complete(*(job.done() for job in jobs[:3]), together=True) == [1, 1, 1]
    assert len(await both.inbox()) == 3
    assert await both.complete(*(job.done() for job in jobs[3:]), together=True) == [1, 1]
    (unread,) = await both.take()
    assert await both.complete(unread.done(), together=True) == [1]
    assert await both.inbox() == []


async def test_work_among_those_that_are_said_to_be_neighbours_stays(both: Field) -> None:
    """Whatever the worker says: what is still in work is not cut off with the others, wherever it stands."""
    await both.register()
    await both.put_many(6)
    await both.assign()
    first, a, held, b, c, d = await both.take()
    assert await both.complete(a.done(), together=True) == [1]
    assert await both.inbox() == [first.request_id, held.request_id, b.request_id, c.request_id, d.request_id]
    assert await both.complete(first.done(), b.done(), together=True) == [1, 1]
    assert await both.inbox() == [held.request_id, c.request_id, d.request_id]
    assert await both.complete(c.done(), a.done(), together=True) == [1, 2]
    assert await both.complete(held.done(), d.done(), together=True) == [1, 1]
    assert await both.inbox() == []


async def test_an_entry_that_was_removed_by_hand_takes_no_other_with_it(field: Field) -> None:
    """Its neighbours are cut off the stream together, and what nobody has read yet stays."""
    await field.register()
    ids = await field.put_many(5)
    await field.assign()
    jobs = await field.take(count=3)
    await field.redis.xdel(keys.inbox(0, "w", "m"), jobs[1].entry)
    assert await field.complete(*(job.done() for job in jobs), together=True) == [1, 1, 1]
    assert await field.inbox() == ids[3:]
