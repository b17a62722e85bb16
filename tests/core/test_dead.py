"""retry_dead, remove_dead, prune_dead: what an operator does with dead letters."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from harness.field import HOUR_MS, KEEP, Field

from coordinator.core import keys, names, steps
from coordinator.core.records import decode_job


async def _retry(field: Field, request_id: str, new_id: str | None = None) -> str | None:
    new_id = new_id or field.request_id(await field.now_ms())
    return await steps.retry_dead(field.partition, request_id, new_id, **KEEP)


async def test_a_retried_dead_letter_is_a_new_job(both: Field) -> None:
    await both.register()
    old = await both.buried(lane="high", head='"max_attempts":7', data=b'{"x":1}')
    new = await _retry(both, old)
    assert new is not None
    assert await both.lane("high") == [new]
    await both.assign()
    (job,) = await both.take()
    assert (job.request_id, job.attempt, job.crashed, job.input) == (new, 1, (), {"x": 1})
    assert b'"max_attempts":7' in job.head
    await both.complete(job.done())
    record = await both.record(old)
    assert (record.status, record.retried_as) == ("failed", new)
    assert await both.redis.xlen(keys.dead(0)) == 0


async def test_its_old_deadline_does_not_end_it_at_once(both: Field) -> None:
    await both.register()
    old = await both.buried(ttl=60_000)
    new = await _retry(both, old)
    assert new is not None
    ((_, fields),) = await both.redis.xrange(keys.jobs(0, "m", "normal"))
    assert decode_job(fields[b"job"]).deadline_at is None


async def test_a_second_retry_says_what_the_first_one_made(both: Field) -> None:
    await both.register()
    old = await both.buried()
    new = await _retry(both, old)
    assert await _retry(both, old) == new
    assert await both.lane() == [new]


async def test_a_repeated_call_says_so_even_after_the_record_of_the_old_job_is_gone(both: Field) -> None:
    """Dead letters are kept for days, records for hours; a lost reply must not look like a failure."""
    await both.register()
    old = await both.buried()
    bucket = names.parse_request_id(old, 1).bucket
    await both.redis.delete(keys.results(0, bucket))
    new_id = both.request_id(await both.now_ms())
    assert await _retry(both, old, new_id) == new_id
    assert await _retry(both, old, new_id) == new_id
    assert await both.lane() == [new_id]


async def test_a_large_input_goes_along(both: Field) -> None:
    await both.register()
    old = await both.buried(blob=b'"large"')
    new = await _retry(both, old)
    assert new is not None
    assert await both.redis.get(keys.blob(0, new, "in")) == b'"large"'
    assert not await both.redis.exists(keys.blob(0, old, "in"))


async def test_a_dead_letter_whose_large_input_is_gone_can_not_be_retried(both: Field) -> None:
    """And above all nothing is half done."""
    await both.register()
    old = await both.buried(blob=b'"large"')
    await both.redis.delete(keys.blob(0, old, "in"))
    assert await _retry(both, old) is None
    assert await both.lane() == []
    assert await both.redis.xlen(keys.dead(0)) == 1
    assert await steps.remove_dead(both.partition, old)


@pytest.mark.parametrize("drift_ms", [-24 * HOUR_MS, 24 * HOUR_MS])
async def test_a_new_id_of_another_time_is_put_right(both: Field, drift_ms: int) -> None:
    """The caller's guess of the time may be off; the record must not be gone before its job."""
    await both.register()
    old = await both.buried()
    now = await both.now_ms()
    new = await _retry(both, old, both.request_id(now + drift_ms))
    assert new is not None
    bucket = names.parse_request_id(new, 1).bucket
    assert abs(bucket - now // 1000 // keys.BUCKET_SECONDS) <= 1
    assert (await both.record(new)).status == "queued"


@pytest.mark.parametrize("output", [1, {"retried_as": "0-1-abc"}])
async def test_what_is_no_dead_letter(both: Field, output: Any) -> None:
    await both.register()
    job = await both.given()
    await both.complete(job.done(output))
    assert await _retry(both, job.request_id) is None
    assert await _retry(both, both.request_id(await both.now_ms())) is None


async def test_a_removed_dead_letter_is_gone_and_the_outcome_stays(both: Field) -> None:
    await both.register()
    request_id = await both.buried(blob=b'"large"')
    assert await steps.remove_dead(both.partition, request_id)
    assert not await steps.remove_dead(both.partition, request_id)
    assert await _retry(both, request_id) is None
    assert (await both.record(request_id)).status == "failed"


async def test_the_oldest_go_when_there_are_too_many(both: Field) -> None:
    await both.register()
    ids = [await both.buried(blob=b'"large"') for _ in range(5)]
    assert await _prune(both, max_dead=3) == 2
    assert await _dead(both) == ids[2:]
    assert await _prune(both, max_dead=3) == 0


async def test_the_old_ones_go(both: Field) -> None:
    await both.register()
    for _ in range(3):
        await both.buried()
    assert await _prune(both, retention_ms=-1, count=2) == 2
    assert await _prune(both, retention_ms=-1, count=2) == 1
    assert await _dead(both) == []


async def test_a_dead_letter_outlives_its_record(both: Field) -> None:
    await both.register()
    request_id = await both.buried()
    await both.redis.delete(keys.results(0, names.parse_request_id(request_id, 1).bucket))
    new = await _retry(both, request_id)
    assert await both.lane() == [new]


async def test_the_dead_letter_can_be_read_by_a_person(both: Field) -> None:
    await both.register()
    request_id = await both.buried(data=b'{"text": "hello"}')
    ((_, fields),) = await both.redis.xrange(keys.dead(0))
    assert fields[b"id"].decode() == request_id
    assert (fields[b"model"], fields[b"reason"], fields[b"worker"]) == (b"m", b"final", b"w")
    assert msgspec.json.decode(decode_job(fields[b"job"]).input) == {"text": "hello"}


async def _prune(field: Field, *, retention_ms: int = HOUR_MS, max_dead: int = 100, count: int = 500) -> int:
    return await steps.prune_dead(field.partition, retention_ms=retention_ms, max_dead=max_dead, count=count)


async def _dead(field: Field) -> list[str]:
    return [fields[b"id"].decode() for _, fields in await field.redis.xrange(keys.dead(0))]
