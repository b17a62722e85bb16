"""read: what a record says right now, and telling those who wait."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from harness.field import Field

from coordinator.core import keys, steps
from coordinator.core.results import result_of


async def _read(field: Field, request_id: str, channel: str = "", wait_ms: int = 60_000) -> steps.Found:
    (found,) = await steps.read(field.partition, [request_id], channel=channel, wait_ms=wait_ms)
    assert found is not None
    return found


async def test_running_begins_when_the_worker_has_read_the_job(both: Field) -> None:
    await both.register()
    request_id = await both.put()
    assert not (await _read(both, request_id)).running
    await both.assign()
    assert not (await _read(both, request_id)).running
    (job,) = await both.take()
    found = await _read(both, request_id)
    assert found.running
    result = result_of(request_id, found)
    assert (result.status, result.worker_id, result.attempts) == ("running", "w", 1)
    await both.complete(job.done())
    assert not (await _read(both, request_id)).running


async def test_unknown_ids_are_none_in_their_place(both: Field) -> None:
    await both.register()
    request_id = await both.put()
    nobody = both.request_id(await both.now_ms())
    rows = await steps.read(both.partition, [nobody, request_id, nobody])
    assert [row is None for row in rows] == [True, False, True]


async def test_an_output_out_of_line_comes_along(both: Field) -> None:
    await both.register()
    job = await both.given()
    await both.complete(job.done("x" * 3000, b"o"))
    found = await _read(both, job.request_id)
    assert found.output is not None
    assert msgspec.json.decode(found.output) == "x" * 3000
    await both.redis.delete(keys.blob(0, job.request_id, "out"))
    assert (await _read(both, job.request_id)).output is None


async def test_looking_leaves_nothing_behind(both: Field) -> None:
    await both.register()
    await _read(both, await both.put())
    assert not await both.redis.exists(keys.waiters(0))


async def test_several_wait_for_one_job_and_expired_interest_is_dropped(both: Field) -> None:
    await both.register()
    request_id = await both.put()
    await _read(both, request_id, "old", wait_ms=-1)
    await _read(both, request_id, "one")
    await _read(both, request_id, "two")
    await _read(both, request_id, "one")
    waiting = (await both.redis.hget(keys.waiters(0), request_id)).decode()
    assert [waiter.split("@")[0] for waiter in waiting.split(",")] == ["one", "two"]


async def test_nobody_waits_for_what_is_final(both: Field) -> None:
    await both.register()
    job = await both.given()
    await both.complete(job.done())
    await _read(both, job.request_id, "one")
    assert not await both.redis.exists(keys.waiters(0))


async def test_each_kind_of_end_is_told(field: Field) -> None:
    """One message per channel and step, a line per job."""
    await field.register(m="50:50")
    pubsub: Any = field.partition.pubsub()
    await pubsub.subscribe("one")
    await pubsub.get_message(timeout=5)

    async def told() -> dict[str, str]:
        async with asyncio.timeout(10):
            while not (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)):
                pass
        lines = dict(line.split(b" ", 1) for line in message["data"].split(b"\n"))
        return {request_id.decode(): msgspec.json.decode(record)["status"] for request_id, record in lines.items()}

    async def wait_for(*ids: str) -> None:
        await steps.read(field.partition, ids, channel="one", wait_ms=60_000)

    ids = await field.put_many(6)
    await wait_for(*ids)
    await field.assign()
    jobs = await field.take()
    await field.complete(*(job.done() for job in jobs[:2]))
    assert await told() == {ids[0]: "succeeded", ids[1]: "succeeded"}
    await field.fail_one(jobs[2], "final")
    assert await told() == {ids[2]: "failed"}
    await steps.cancel(field.partition, ids[3])
    assert await told() == {ids[3]: "cancelled"}
    await field.let_run(jobs[4], 60_000)
    await field.overdue(lifetime_ms=-1)
    assert await told() == {ids[4]: "failed"}
    await field.end_lease()
    await field.reclaim(max_crashes=1)
    assert await told() == {ids[5]: "failed"}

    await field.register(incarnation="2")
    late = [await field.put(ttl=-1), await field.put(lane="low", ttl=-1), await field.put(delay=60_000, ttl=-1)]
    await wait_for(*late)
    await field.fall_due()
    await field.promote()
    assert await told() == {late[2]: "expired"}
    await steps.expire(field.partition, "m", "low", lifetime_ms=3_600_000)
    assert await told() == {late[1]: "expired"}
    await field.assign()
    assert await told() == {late[0]: "expired"}
    assert not await field.redis.exists(keys.waiters(0))
    await pubsub.aclose()
