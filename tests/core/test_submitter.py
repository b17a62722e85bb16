"""Submitter: many callers, few calls; and what an accepted job, a duplicate and a refusal look like to a caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.field import Field
from harness.proxy import Proxy
from harness.redis import RedisServer

from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.core.errors import (
    BacklogFull,
    Conflict,
    CoordinatorError,
    InvalidInput,
    MemoryPressure,
    RedisUnavailable,
    UnknownModel,
)
from coordinator.core.records import NewJob
from coordinator.core.settings import Settings
from coordinator.core.steps import Receipt
from coordinator.core.submitter import Submitter


def _job(**changes: Any) -> NewJob:
    return NewJob(**{"model": "m", "input": b"0", **changes})


async def _calls(field: Field) -> int:
    stats = await field.redis.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))


async def test_a_job_is_accepted(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    receipt = await Submitter(connections, settings).submit(_job(input=b'{"x":1}'))
    assert (receipt.outcome, receipt.workers_away) == ("accepted", False)
    assert (await field.record(receipt.request_id)).status == "queued"


async def test_concurrent_callers_share_calls(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    submitter = Submitter(connections, settings)
    await submitter.submit(_job())
    before = await _calls(field)
    receipts = await asyncio.gather(*(submitter.submit(_job(input=b"%d" % i)) for i in range(500)))
    assert await _calls(field) - before <= 4
    assert len({receipt.request_id for receipt in receipts}) == 500
    rows = await field.redis.xrange(keys.jobs(0, "m", "normal"))
    inputs = {fields[b"id"].decode(): fields[b"job"].rpartition(b":")[2][:-1] for _, fields in rows}
    assert [inputs[receipt.request_id] for receipt in receipts] == [b"%d" % i for i in range(500)]


async def test_one_bad_job_does_not_fail_the_others(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    jobs = [
        _job(),
        _job(model="no such model"),
        _job(model="nobody"),
        _job(priority="urgent"),
        _job(priority="high"),
        _job(timeout_ms=0),
        _job(durability="eventually"),
        _job(idempotency_key="k"),
        _job(idempotency_key="k"),
        _job(idempotency_key="k", input=b"1"),
    ]
    answers = await Submitter(connections, settings).submit_many(jobs)
    assert [type(answer) for answer in answers] == [
        Receipt,
        InvalidInput,
        UnknownModel,
        InvalidInput,
        Receipt,
        InvalidInput,
        InvalidInput,
        Receipt,
        Receipt,
        Conflict,
    ]
    assert [answer.outcome for answer in answers if isinstance(answer, Receipt)] == [
        "accepted",
        "accepted",
        "accepted",
        "duplicate",
    ]
    assert await Submitter(connections, settings).submit_many([]) == []


async def test_thousands_at_once_come_back_in_order(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    answers = await Submitter(connections, settings).submit_many([_job(input=b"%d" % i) for i in range(2500)])
    assert all(isinstance(answer, Receipt) for answer in answers)
    rows = await field.redis.xrange(keys.jobs(0, "m", "normal"))
    inputs = {fields[b"id"].decode(): fields[b"job"].rpartition(b":")[2][:-1] for _, fields in rows}
    got = [inputs[answer.request_id] for answer in answers if isinstance(answer, Receipt)]
    assert got == [b"%d" % i for i in range(2500)]


async def test_an_idempotency_key_is_about_the_whole_request(
    field: Field, connections: Connections, settings: Settings
) -> None:
    await field.register()
    submitter = Submitter(connections, settings)
    first = await submitter.submit(_job(idempotency_key="k", priority="high"))
    again = await submitter.submit(_job(idempotency_key="k", priority="high"))
    assert (again.outcome, again.request_id) == ("duplicate", first.request_id)
    for other in (_job(idempotency_key="k"), _job(idempotency_key="k", priority="high", input=b"1")):
        with pytest.raises(Conflict) as error:
            await submitter.submit(other)
        assert error.value.request_id == first.request_id
    different = await submitter.submit(_job(idempotency_key="K", priority="high"))
    assert different.request_id != first.request_id


async def test_a_large_input_goes_out_of_line(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    data = b'"' + b"x" * settings.inline_bytes + b'"'
    receipt = await Submitter(connections, settings).submit(_job(input=data))
    assert await field.redis.get(keys.blob(0, receipt.request_id, "in")) == data
    assert (await field.record(receipt.request_id)).input_bytes == len(data)


@pytest.mark.parametrize(
    "job",
    [
        _job(model="a b"),
        _job(model="a" * 10_000),
        _job(model=""),
        _job(priority="retry"),
        _job(timeout_ms=-1),
        _job(timeout_ms=10**12),
        _job(max_attempts=0),
        _job(max_attempts=101),
        _job(delay_ms=-1),
        _job(delay_ms=10**12),
        _job(deadline_ms=0),
        _job(deadline_ms=10**12),
        _job(input=b"0" * ((1 << 20) + 1)),
        _job(durability="eventually"),
    ],
)
async def test_bad_input_is_said_to_be_bad(
    field: Field, connections: Connections, settings: Settings, job: NewJob
) -> None:
    await field.register()
    with pytest.raises(InvalidInput):
        await Submitter(connections, settings).submit(job)


async def test_refusals(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register()
    submitter = Submitter(connections, settings.model_copy(update={"max_backlog": 1}))
    with pytest.raises(UnknownModel):
        await submitter.submit(_job(model="nobody"))
    await submitter.submit(_job())
    with pytest.raises(BacklogFull) as full:
        await submitter.submit(_job())
    assert full.value.retry_after > 0
    await field.redis.set(keys.pressure(0), "1", px=60_000)
    with pytest.raises(MemoryPressure):
        await submitter.submit(_job())


async def test_a_caller_that_gives_up_does_not_disturb_the_others(
    field: Field, connections: Connections, settings: Settings
) -> None:
    await field.register()
    submitter = Submitter(connections, settings)
    tasks = [asyncio.create_task(submitter.submit(_job())) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert all(isinstance(result, Receipt) for i, result in enumerate(results) if i != 3)


async def test_a_process_whose_clock_is_far_off_is_put_right(
    field: Field, connections: Connections, settings: Settings
) -> None:
    """The wall clock is only a first guess; Redis's own time decides."""
    await field.register()
    connections.partitions[0].time.learn(1_000_000_000_000)
    first, second = await Submitter(connections, settings).submit_many([_job(), _job(idempotency_key="k")])
    assert isinstance(first, Receipt)
    assert isinstance(second, Receipt)
    assert (first.outcome, second.outcome) == ("accepted", "accepted")
    assert abs(connections.partitions[0].time.now_ms() - await field.now_ms()) < 5000
    again = await Submitter(connections, settings).submit(_job(idempotency_key="k"))
    assert again.request_id == second.request_id


@pytest.fixture
async def proxied(field: Field, redis_server: RedisServer) -> AsyncIterator[tuple[Proxy, Submitter]]:
    """A submitter whose replies can be lost."""
    await field.register()
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        settings = Settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0")
        async with await Connections.open(settings, client_name="proxied") as connections:
            submitter = Submitter(connections, settings)
            await submitter.submit(_job(priority="low"))
            yield proxy, submitter


async def test_a_lost_reply_makes_no_second_job(proxied: tuple[Proxy, Submitter], field: Field) -> None:
    """The jobs are in; the process never heard of it, and sends them again."""
    proxy, submitter = proxied
    proxy.cut_replies(1)
    receipts = await asyncio.gather(
        submitter.submit(_job()),
        submitter.submit(_job(idempotency_key="k")),
        submitter.submit(_job(input=b'"%b"' % (b"x" * 5000))),
    )
    assert proxy.hits == 1
    assert [receipt.outcome for receipt in receipts] == ["duplicate"] * 3
    assert sorted(await field.lane()) == sorted(receipt.request_id for receipt in receipts)


async def test_two_lost_replies_make_no_second_job_either(proxied: tuple[Proxy, Submitter], field: Field) -> None:
    proxy, submitter = proxied
    proxy.cut_replies(2)
    answers = await submitter.submit_many([_job(input=b"%d" % i) for i in range(100)])
    assert proxy.hits == 2
    assert not any(isinstance(answer, CoordinatorError) for answer in answers)
    assert len(await field.lane()) == 100


async def test_while_redis_is_away_it_is_said_so_and_afterwards_it_works_again(own_redis: RedisServer) -> None:
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.3)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        submitter = Submitter(connections, settings)
        own_redis.stop()
        with pytest.raises(RedisUnavailable):
            await submitter.submit(_job())
        answers = await submitter.submit_many([_job(), _job()])
        assert [type(answer) for answer in answers] == [RedisUnavailable, RedisUnavailable]
        own_redis.start()
        assert (await submitter.submit(_job())).outcome == "accepted"
