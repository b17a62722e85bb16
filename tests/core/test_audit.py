"""The auditor: whatever is broken it names, mends, and finds whole afterwards; what runs it does not accuse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from harness.field import HOUR_MS, Field
from harness.fleet import Producer, fleet

from coordinator.core import keys, names
from coordinator.core.audit import KINDS, Report, audit
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings


async def look(field: Field, *, repair: bool = False) -> Report:
    return await audit(Connections([field.partition]), Settings(), repair=repair)


def kinds(report: Report) -> Counter[str]:
    return Counter(finding.kind for finding in report.findings)


Break = Callable[[Field], Awaitable[str]]
"""Breaks the data in one way, and returns the request id that it concerns, or ''."""


async def lose_entry(field: Field) -> str:
    request_id = await field.put()
    await field.redis.xtrim(keys.jobs(0, "m", "normal"), maxlen=0)
    return request_id


async def lose_entry_of_a_job_with_a_blob(field: Field) -> str:
    request_id = await field.put(blob=b'"large"')
    await field.redis.xtrim(keys.jobs(0, "m", "normal"), maxlen=0)
    return request_id


async def lose_running_entry(field: Field) -> str:
    job = await field.given()
    await field.redis.xack(keys.inbox(0, "w", "m"), keys.INBOX_GROUP, job.entry)
    await field.redis.xdel(keys.inbox(0, "w", "m"), job.entry)
    return job.request_id


async def forget_that_it_is_dead(field: Field) -> str:
    request_id = await field.put()
    stale = await field.raw_record(request_id)
    await field.assign()
    (job,) = await field.take()
    await field.fail_one(job, "final")
    await field.redis.hset(bucket(request_id), request_id, stale)
    return request_id


async def misdirect_record(field: Field) -> str:
    request_id = await field.put()
    stale = await field.raw_record(request_id)
    await field.assign()
    await field.redis.hset(bucket(request_id), request_id, stale)
    return request_id


async def lose_record(field: Field) -> str:
    await field.put()  # keeps the bucket alive
    request_id = await field.put()
    await field.redis.hdel(bucket(request_id), request_id)
    return request_id


async def lose_record_of_a_retry(field: Field) -> str:
    await field.put()
    await field.assign()
    for job in await field.take():
        await field.fail_one(job, delay_ms=60_000)
        last = job.request_id
    await field.put()
    await field.redis.hdel(bucket(last), last)
    return last


async def lose_bucket(field: Field) -> str:
    older = field.request_id(await field.now_ms() - keys.BUCKET_SECONDS * 1000)
    request_id = await field.put(request_id=older)
    await field.redis.delete(bucket(request_id))
    return request_id


async def bring_back_a_finished_entry(field: Field) -> str:
    await field.put()
    ((_, fields),) = await field.redis.xrange(keys.jobs(0, "m", "normal"))
    await field.assign()
    (job,) = await field.take()
    # What looks like a place in an output is none.
    assert await field.complete(job.done({"at": "jobs:m:normal 1-1"})) == [1]
    await field.redis.xadd(keys.jobs(0, "m", "normal"), fields)
    return job.request_id


async def double_entry(field: Field) -> str:
    request_id = await field.put()
    ((_, fields),) = await field.redis.xrange(keys.jobs(0, "m", "normal"))
    await field.assign()
    await field.redis.xadd(keys.jobs(0, "m", "normal"), fields)
    return request_id


async def lose_input(field: Field) -> str:
    request_id = await field.put(blob=b'"large"')
    await field.redis.delete(keys.blob(0, request_id, "in"))
    return request_id


async def add_garbage_entry(field: Field) -> str:
    await field.redis.xadd(keys.jobs(0, "m", "normal"), {"hello": "world"})
    return ""


async def spoil_record(field: Field) -> str:
    job = await field.given()
    await field.complete(job.done())
    await field.redis.hset(bucket(job.request_id), job.request_id, "nonsense")
    return job.request_id


async def keep_bucket_for_ever(field: Field) -> str:
    request_id = await field.put()
    await field.redis.persist(bucket(request_id))
    return ""


async def lose_delay(field: Field) -> str:
    request_id = await field.put(delay=60_000)
    (entry,) = await field.redis.xrevrange(keys.parked(0), count=1)
    await field.redis.zrem(keys.delayed(0), entry[0])
    return request_id


async def add_delay(field: Field) -> str:
    await field.redis.zadd(keys.delayed(0), {"1-1": 1})
    return ""


async def lose_dead_index(field: Field) -> str:
    request_id = await field.buried()
    await field.redis.delete(keys.dead_index(0))
    return request_id


async def double_letter(field: Field) -> str:
    request_id = await field.buried()
    ((_, fields),) = await field.redis.xrange(keys.dead(0))
    await field.redis.xadd(keys.dead(0), fields)
    return request_id


async def lose_letter(field: Field) -> str:
    request_id = await field.buried()
    await field.redis.xtrim(keys.dead(0), maxlen=0)
    return request_id


async def lose_lease(field: Field) -> str:
    await field.redis.zrem(keys.workers(0), "w")
    return ""


async def add_lease(field: Field) -> str:
    await field.redis.zadd(keys.workers(0), {"nobody": 1})
    return ""


async def spoil_registration(field: Field) -> str:
    await field.register("x")
    await field.redis.hdel(keys.worker(0, "x"), "models")
    await field.redis.delete(keys.inbox(0, "x", "m"))
    return ""


async def lose_registration(field: Field) -> str:
    await field.given()
    await field.redis.delete(keys.worker(0, "w"))
    await field.redis.zrem(keys.workers(0), "w")
    return ""


async def stop_serving(field: Field) -> str:
    await field.register("w", "1", models={"m": "8:16", "other": "1:2"})
    await field.put("other")
    await field.assign(model="other")
    await field.redis.hset(keys.worker(0, "w"), "models", '{"m":{"capacity":8,"window":16}}')
    return ""


async def leave_input(field: Field) -> str:
    job = await field.given()
    await field.complete(job.done())
    await field.redis.set(keys.blob(0, job.request_id, "in"), "left", px=HOUR_MS)
    return job.request_id


async def leave_output(field: Field) -> str:
    request_id = field.request_id(await field.now_ms())
    await field.redis.set(keys.blob(0, request_id, "out"), "left", px=HOUR_MS)
    return request_id


def bucket(request_id: str) -> str:
    return keys.results(0, names.parse_request_id(request_id, 1).bucket)


BREAKS: dict[Break, str] = {
    lose_entry: "record_without_entry",
    lose_entry_of_a_job_with_a_blob: "record_without_entry",
    lose_running_entry: "record_without_entry",
    forget_that_it_is_dead: "record_without_entry",
    misdirect_record: "record_elsewhere",
    lose_record: "entry_without_record",
    lose_record_of_a_retry: "entry_without_record",
    lose_bucket: "entry_without_bucket",
    bring_back_a_finished_entry: "entry_of_finished_job",
    double_entry: "entry_in_two_places",
    lose_input: "input_missing",
    add_garbage_entry: "malformed_entry",
    spoil_record: "malformed_record",
    keep_bucket_for_ever: "bucket_without_end",
    lose_delay: "parked_without_delay",
    add_delay: "delay_without_parked",
    lose_dead_index: "dead_letter_without_index",
    double_letter: "dead_letter_twice",
    lose_letter: "dead_index_without_letter",
    lose_lease: "worker_without_lease",
    add_lease: "lease_without_worker",
    spoil_registration: "malformed_worker",
    lose_registration: "orphan_inbox",
    stop_serving: "inbox_not_served",
    leave_input: "orphan_blob",
    leave_output: "orphan_blob",
}


def test_every_kind_of_finding_is_broken_here() -> None:
    assert set(BREAKS.values()) == set(KINDS)


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
async def test_what_is_broken_is_named_mended_and_whole_afterwards(field: Field, damage: Break) -> None:
    await field.register()
    await field.put()
    await field.put(delay=60_000)
    await field.assign()
    await field.take()
    assert not (await look(field)).findings
    request_id = await damage(field)
    for repair in (False, True):
        report = await look(field, repair=repair)
        assert kinds(report) == {BREAKS[damage]: 1}
        (finding,) = report.findings
        assert finding.mended == repair
        assert finding.request_id == request_id
        assert finding.problem
        assert finding.repair
    assert not (await look(field)).findings


async def test_a_lost_job_fails_as_lost_and_its_waiters_are_told(field: Field) -> None:
    await field.register()
    request_id = await lose_entry(field)
    await field.redis.hset(keys.waiters(0), request_id, f"somebody@{await field.now_ms() + HOUR_MS}")
    await look(field, repair=True)
    record = await field.record(request_id)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.type == "lost"
    assert not await field.redis.exists(keys.waiters(0))


async def test_a_job_whose_input_is_still_there_is_taken_up_again(field: Field) -> None:
    await field.register()
    request_id = await lose_entry_of_a_job_with_a_blob(field)
    await look(field, repair=True)
    assert await field.lane("retry") == [request_id]
    await field.assign()
    (job,) = await field.take()
    assert await field.complete(job.done(flags=b"i")) == [1]


async def test_a_dead_letter_gets_its_record_back(field: Field) -> None:
    await field.register()
    request_id = await forget_that_it_is_dead(field)
    await look(field, repair=True)
    record = await field.record(request_id)
    assert record.status == "failed"
    assert record.dead_letter == (await field.redis.hget(keys.dead_index(0), request_id)).decode()


async def test_the_second_place_of_a_job_loses_the_right_to_an_outcome(field: Field) -> None:
    await field.register()
    await field.register("x")
    job = await field.given()
    ((_, fields),) = await field.redis.xrange(keys.inbox(0, "w", "m"))
    await field.redis.xadd(keys.inbox(0, "x", "m"), fields)
    (second,) = await field.take("x")
    await look(field, repair=True)
    assert await field.complete(second.done("wrong"), worker="x") == [0]
    assert await field.complete(job.done("right")) == [1]


async def test_an_orphan_inbox_is_drained_by_the_reclaimer(field: Field) -> None:
    await field.register()
    request_id = (await field.given()).request_id
    await field.redis.delete(keys.worker(0, "w"))
    await field.redis.zrem(keys.workers(0), "w")
    await look(field, repair=True)
    assert (await field.reclaim("w")).requeued == 1
    assert await field.lane("retry") == [request_id]


async def test_all_is_looked_at(field: Field) -> None:
    await field.register()
    await field.put_many(250)
    await field.put(blob=b'"large"')
    await field.assign()
    report = await look(field)
    assert report.looked["entries"] == report.looked["records"] == 251
    assert report.looked["workers"] == report.looked["inboxes"] == report.looked["blobs"] == 1


@pytest.mark.parametrize("repair", [False, True])
async def test_a_system_under_load_is_not_accused(settings: Settings, repair: bool) -> None:
    async with await Connections.open(settings, client_name="tests") as connections:
        models = ("one", "two")
        async with fleet(settings, models):
            producer = Producer(connections, settings, models)
            async with producer.running(8):
                audits = 0
                while audits < 5 or len(producer.accepted) < 500:
                    report = await audit(connections, settings, repair=repair)
                    assert not report.findings
                    audits += 1
            assert audits


async def test_two_audits_at_once_mend_each_thing_once(field: Field) -> None:
    await field.register()
    request_id = await lose_record(field)
    await asyncio.gather(look(field, repair=True), look(field, repair=True))
    assert (await field.record(request_id)).status == "queued"
    assert not (await look(field)).findings
