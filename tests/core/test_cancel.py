"""cancel: wherever the job is, and never after its end."""

from __future__ import annotations

from typing import Any

import pytest
from harness.field import Field

from coordinator.core import keys, steps


async def _cancel(field: Field, request_id: str) -> tuple[str, str]:
    return await steps.cancel(field.partition, request_id)


async def test_while_it_waits(both: Field) -> None:
    await both.register()
    request_id = await both.put(blob=b'"large"')
    assert await _cancel(both, request_id) == ("cancelled", "queued")
    assert await both.lane() == []
    record = await both.record(request_id)
    assert (record.status, record.attempts) == ("cancelled", 0)
    assert (await both.assign()).moved == 0


async def test_while_it_is_delayed(both: Field) -> None:
    await both.register()
    request_id = await both.put(delay=60_000)
    assert await _cancel(both, request_id) == ("cancelled", "queued")
    await both.fall_due()
    assert (await both.promote()).moved == 0


async def test_while_it_lies_unread_at_a_worker(both: Field) -> None:
    await both.register(m="1:1")
    ids = await both.put_many(2)
    await both.assign()
    await both.woken()
    assert await _cancel(both, ids[0]) == ("cancelled", "assigned")
    assert await both.take() == []
    assert (await both.record(ids[0])).attempts == 0
    assert await both.woken() == {"m"}


async def test_while_it_runs(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await _cancel(both, job.request_id) == ("cancelled", "running")
    record = await both.record(job.request_id)
    assert (record.status, record.attempts, record.worker_id) == ("cancelled", 1, "w")
    assert await steps.held(both.partition, "w", "m", [job.entry]) == [job.entry]
    assert await both.complete(job.done()) == [0]
    assert await both.fail_one(job) == "stale"
    assert (await both.record(job.request_id)).status == "cancelled"


async def test_while_it_waits_for_a_retry(both: Field) -> None:
    await both.register()
    job = await both.given()
    await both.fail_one(job, delay_ms=60_000)
    assert await _cancel(both, job.request_id) == ("cancelled", "retrying")
    assert (await both.record(job.request_id)).attempts == 1


async def test_again_says_the_same(both: Field) -> None:
    await both.register()
    request_id = await both.put()
    await _cancel(both, request_id)
    before = await both.raw_record(request_id)
    assert (await _cancel(both, request_id))[0] == "cancelled"
    assert await both.raw_record(request_id) == before


@pytest.mark.parametrize("output", [1, {"at": "jobs:m:normal 1-1"}, {"at": "10:00 o'clock"}, '"at":"parked 1-1"'])
async def test_too_late_for_a_job_that_succeeded(both: Field, output: Any) -> None:
    """Whatever its output looks like."""
    await both.register()
    job = await both.given()
    await both.complete(job.done(output))
    before = await both.raw_record(job.request_id)
    assert await _cancel(both, job.request_id) == ("final", "succeeded")
    assert await both.raw_record(job.request_id) == before


async def test_too_late_for_a_dead_letter_and_for_what_expired(both: Field) -> None:
    await both.register()
    failed = await both.buried()
    expired = await both.put(ttl=-1)
    await both.assign()
    assert await _cancel(both, failed) == ("final", "failed")
    assert await _cancel(both, expired) == ("final", "expired")
    assert await both.redis.xlen(keys.dead(0)) == 1


async def test_an_id_that_nobody_knows(both: Field) -> None:
    assert await _cancel(both, both.request_id(await both.now_ms())) == ("unknown", "")
