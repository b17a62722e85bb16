"""submit: once per request id, refused before Redis is full, and the record says where the job is."""

from __future__ import annotations

from typing import Any

import pytest
from harness.field import HOUR_MS, Field

from coordinator.core import keys, names

BUCKET_MS = keys.BUCKET_SECONDS * 1000


async def test_an_accepted_job_is_in_its_lane_with_a_record(both: Field) -> None:
    await both.register()
    request_id = await both.put(lane="high", data=b'{"text":"hello"}')
    assert await both.lane("high") == [request_id]
    record = await both.record(request_id)
    assert (record.status, record.model, record.priority, record.attempts) == ("queued", "m", "high", 0)
    assert record.at.startswith("jobs:m:high ")
    assert abs(record.submitted_at - await both.now_ms()) < 60_000
    assert await both.woken() == {"m"}


async def test_receipts_come_in_the_order_of_the_jobs(both: Field) -> None:
    await both.register("w", a="1:1", b="1:1")
    jobs = [
        await both.submission(model, lane) for model in ("a", "b", "x") for lane in ("low", "high") for _ in range(2)
    ]
    mixed = jobs[::3] + jobs[1::3] + jobs[2::3]
    receipts = await both.submit(*mixed)
    assert [receipt.request_id for receipt in receipts] == [job.request_id for job in mixed]
    assert [receipt.outcome for receipt in receipts] == ["unknown" if job.model == "x" else "accepted" for job in mixed]


async def test_the_same_submission_again_makes_no_second_job(both: Field) -> None:
    await both.register()
    job = await both.submission()
    first, twin = await both.submit(job, job)
    (again,) = await both.submit(job)
    assert (first.outcome, twin.outcome, again.outcome) == ("accepted", "duplicate", "duplicate")
    assert await both.lane() == [job.request_id]


@pytest.mark.parametrize("output", [1, {"key": "fake"}, {"a": ["key", "x"]}])
async def test_a_resend_after_the_job_was_done_is_a_duplicate(both: Field, output: Any) -> None:
    """Whatever its output says: a record is not searched for what a handler wrote."""
    await both.register()
    job = await both.submission()
    await both.submit(job)
    await both.assign()
    (taken,) = await both.take()
    await both.complete(taken.done(output))
    (again,) = await both.submit(job)
    assert (again.outcome, again.request_id) == ("duplicate", job.request_id)


async def test_an_idempotency_key_finds_the_first_job_and_tells_a_different_one(both: Field) -> None:
    await both.register()
    now = await both.now_ms()
    first_id = names.request_id_from(b"0123456789", 0, now)
    (first,) = await both.submit(await both.submission(request_id=first_id, key="aa"))
    (same,) = await both.submit(await both.submission(request_id=first_id, key="aa"))
    (other,) = await both.submit(await both.submission(request_id=first_id, key="bb", data=b"2"))
    assert (first.outcome, same.outcome, other.outcome) == ("accepted", "duplicate", "conflict")
    assert same.request_id == other.request_id == first_id


@pytest.mark.parametrize("drift", [-2, -1, 1])
async def test_an_idempotency_key_is_found_by_a_process_whose_time_is_a_bucket_off(field: Field, drift: int) -> None:
    """The bucket is a guess of the submitting process; the key must find the job whichever way that guess is off."""
    await field.register()
    now = await field.now_ms()
    first = names.request_id_from(b"0123456789", 0, now)
    second = names.request_id_from(b"0123456789", 0, now + drift * BUCKET_MS)
    assert first != second
    await field.submit(await field.submission(request_id=first, key="aa"))
    (receipt,) = await field.submit(await field.submission(request_id=second, key="aa"))
    assert (receipt.outcome, receipt.request_id) == ("duplicate", first)
    assert len(await field.lane()) == 1


@pytest.mark.parametrize("drift", [-1, 1])
async def test_an_idempotency_key_used_twice_in_one_call_over_a_bucket_edge_makes_one_job(
    field: Field, drift: int
) -> None:
    await field.register()
    now = await field.now_ms()
    jobs = [
        await field.submission(request_id=names.request_id_from(b"0123456789", 0, at), key="aa")
        for at in (now, now + drift * BUCKET_MS)
    ]
    first, second = await field.submit(*jobs)
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert second.request_id == first.request_id
    assert len(await field.lane()) == 1


async def test_an_unknown_model_is_refused(both: Field) -> None:
    (receipt,) = await both.submit(await both.submission("nobody"))
    assert receipt.outcome == "unknown"
    assert await both.census() == {}


async def test_a_model_whose_workers_are_away_is_queued_and_the_receipt_says_so(both: Field) -> None:
    await both.register()
    (here,) = await both.submit(await both.submission())
    await both.reclaim(retire=True)
    (away,) = await both.submit(await both.submission())
    assert (here.workers_away, away.workers_away, away.outcome) == (False, True, "accepted")


async def test_the_backlog_limit_counts_all_lanes_and_refuses_the_rest(both: Field) -> None:
    await both.register()
    jobs = [await both.submission("m", lane) for lane in ("low", "normal", "high", "high")]
    receipts = await both.submit(*jobs, max_backlog=3)
    assert sorted(receipt.outcome for receipt in receipts) == ["accepted", "accepted", "accepted", "full"]
    (late,) = await both.submit(await both.submission(delay=5), max_backlog=3)
    assert late.outcome == "accepted"


async def test_delayed_jobs_have_the_same_limit(both: Field) -> None:
    await both.register()
    receipts = await both.submit(*[await both.submission(delay=60_000) for _ in range(3)], max_backlog=2)
    assert [receipt.outcome for receipt in receipts] == ["accepted", "accepted", "full"]


async def test_under_memory_pressure_new_jobs_are_refused_and_old_ones_are_known(both: Field) -> None:
    await both.register()
    old = await both.submission()
    await both.submit(old)
    await both.redis.set(keys.pressure(0), "1", px=60_000)
    again, new = await both.submit(old, await both.submission())
    assert (again.outcome, new.outcome) == ("duplicate", "pressure")


async def test_a_delayed_job_is_parked_until_it_falls_due(both: Field) -> None:
    await both.register()
    request_id = await both.put(delay=60_000)
    assert await both.lane() == []
    assert (await both.record(request_id)).at.startswith("parked ")
    ((_, due),) = await both.redis.zrange(keys.delayed(0), 0, -1, withscores=True)
    assert 50_000 < due - await both.now_ms() <= 60_000


async def test_a_large_input_lies_out_of_line_and_has_a_ttl(both: Field) -> None:
    await both.register()
    request_id = await both.put(blob=b'"large"')
    assert await both.redis.get(keys.blob(0, request_id, "in")) == b'"large"'
    assert await both.redis.pttl(keys.blob(0, request_id, "in")) <= 2 * HOUR_MS
    assert (await both.record(request_id)).input_bytes == 7


@pytest.mark.parametrize("drift", [-100, -3, 2, 100])
async def test_an_id_of_another_time_is_refused(both: Field, drift: int) -> None:
    """Its bucket could be gone before the job is."""
    await both.register()
    old = both.request_id(await both.now_ms() + drift * BUCKET_MS)
    (receipt,) = await both.submit(await both.submission(request_id=old))
    assert receipt.outcome == "clock"


@pytest.mark.parametrize("drift", [-2, -1, 0, 1])
async def test_a_record_is_kept_for_lifetime_and_retention_however_late_its_id_is(both: Field, drift: int) -> None:
    await both.register()
    now = await both.now_ms()
    request_id = both.request_id(now + drift * BUCKET_MS)
    await both.submit(await both.submission(request_id=request_id), lifetime_ms=1000, retention_ms=2000)
    bucket = names.parse_request_id(request_id, 1).bucket
    assert await both.redis.pttl(keys.results(0, bucket)) >= 3000


async def test_a_job_of_the_longest_id_and_the_longest_model_name_goes_through(both: Field) -> None:
    model = "a" * 199 + "/"
    await both.register("w" * 100, models={model: "1:1"})
    request_id = await both.put(model)
    assert await both.lane(model=model) == [request_id]
