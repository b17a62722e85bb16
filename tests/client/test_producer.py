"""Straight into Redis: the same promises, without HTTP."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from client.hand import Hand
from harness.proxy import Proxy

from coordinator.client import (
    BacklogFull,
    Conflict,
    InvalidInput,
    InvalidState,
    JobFailed,
    JobRequest,
    NotFound,
    Producer,
    RedisUnavailable,
    UnknownModel,
    WaitTimeout,
)
from coordinator.core.settings import Settings


async def test_submit_and_wait(producer: Producer, hand: Hand) -> None:
    request_id = await producer.submit(hand.model, {"x": 1})
    waiting = asyncio.create_task(producer.wait(request_id))
    (job,) = await hand.take()
    assert (job.request_id, job.input) == (request_id, {"x": 1})
    await hand.finish(job, "seen")
    assert (await waiting).value() == "seen"


async def test_many_at_once_keep_their_order(producer: Producer, hand: Hand) -> None:
    request_ids = await producer.submit_many(hand.model, range(700))
    assert [(job.request_id, job.input) for job in await hand.take()] == list(zip(request_ids, range(700), strict=True))


async def test_concurrent_submissions_are_all_accepted(producer: Producer, hand: Hand) -> None:
    request_ids = await asyncio.gather(*(producer.submit(hand.model, i) for i in range(300)))
    assert {job.request_id: job.input for job in await hand.take()} == dict(zip(request_ids, range(300), strict=True))


async def test_a_lost_reply_makes_no_second_job(shared_redis_url: str, producer: Producer, hand: Hand) -> None:
    # With the script known, a submission is one command, and the reply to it is what gets lost.
    await producer.submit(hand.model, "before")
    redis = urlsplit(shared_redis_url)
    assert redis.port is not None
    async with (
        Proxy("127.0.0.1", redis.port) as proxy,
        Producer.open(f"redis://127.0.0.1:{proxy.port}{redis.path}") as cut_off,
    ):
        proxy.cut_replies()
        request_id = await cut_off.submit(hand.model, "once")
        assert proxy.hits == 1
        proxy.cut_replies()
        request_ids = await cut_off.submit_many(hand.model, ["a", "b"])
        assert proxy.hits == 2
    assert [job.request_id for job in await hand.take()][1:] == [request_id, *request_ids]


async def test_one_bad_job_does_not_fail_the_others(producer: Producer, hand: Hand) -> None:
    first, unwritable, misnamed, late, unknown, last = await producer.submit_many(
        [
            JobRequest(hand.model, 1),
            JobRequest(hand.model, object()),
            JobRequest("no good", 2),
            JobRequest(hand.model, 3, timeout_seconds=float("inf")),
            JobRequest("never-registered", 4),
            JobRequest(hand.model, 5),
        ]
    )
    assert all(isinstance(wrong, InvalidInput) for wrong in (unwritable, misnamed, late))
    assert isinstance(unknown, UnknownModel)
    assert [job.request_id for job in await hand.take()] == [first, last]


async def test_keys(producer: Producer, hand: Hand) -> None:
    first = await producer.submit(hand.model, 1, idempotency_key=hand.model)
    assert await producer.submit(hand.model, 1, idempotency_key=hand.model) == first
    with pytest.raises(Conflict):
        await producer.submit(hand.model, 2, idempotency_key=hand.model)


async def test_a_full_backlog_is_raised_at_once(shared_redis_url: str, hand: Hand) -> None:
    settings = Settings(redis_url=shared_redis_url, max_backlog=2)
    async with Producer.open(settings=settings) as producer:
        answers = await producer.submit_many(hand.model, range(4))
        assert [isinstance(answer, BacklogFull) for answer in answers] == [False, False, True, True]
        with pytest.raises(BacklogFull):
            await producer.submit(hand.model, 4)
    assert await hand.backlog() == 2


async def test_outcomes_that_are_no_success(producer: Producer, hand: Hand) -> None:
    failing, cancelled, slow = [await producer.submit(hand.model, word) for word in ("failing", "cancelled", "slow")]
    await producer.cancel(cancelled)
    job, _ = await hand.take()
    await hand.fail(job, "broken")
    with pytest.raises(JobFailed, match="broken"):
        (await producer.wait(failing)).value()
    assert (await producer.wait(cancelled)).status == "cancelled"
    with pytest.raises(InvalidState):
        await producer.cancel(failing)
    with pytest.raises(WaitTimeout, match="running"):
        await producer.wait(slow, timeout=0.02)
    with pytest.raises(NotFound):
        await producer.wait("0-5873291-abcdefghij234567")
    with pytest.raises(NotFound):
        await producer.cancel("0-5873291-abcdefghij234567")


async def test_a_thousand_waiters_hear_of_it(producer: Producer, hand: Hand) -> None:
    request_ids = [answer for answer in await producer.submit_many(hand.model, range(1000)) if isinstance(answer, str)]
    waiting = asyncio.gather(*(producer.wait(request_id) for request_id in request_ids))
    for job in await hand.take():
        await hand.finish(job, job.input)
    assert [result.value() for result in await waiting] == list(range(1000))


async def test_redis_away(free_port: int) -> None:
    with pytest.raises(RedisUnavailable):
        async with Producer.open(f"redis://127.0.0.1:{free_port}/0"):
            pass
