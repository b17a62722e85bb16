"""Handing in jobs over HTTP: accepted once, whatever is lost on the way, and refused with an error that says why."""

from __future__ import annotations

import asyncio
from array import array

import pytest
from client.fixtures import Api, StartApi
from client.hand import Hand, Taken
from harness.proxy import Proxy

from coordinator.client import (
    AsyncClient,
    BacklogFull,
    Conflict,
    InvalidInput,
    JobRequest,
    NotDurable,
    RedisUnavailable,
    UnknownModel,
    Unreachable,
)


async def test_the_worker_gets_what_was_submitted(client: AsyncClient, hand: Hand) -> None:
    value = {"text": "Grüße, 世界", "numbers": [1, 2.5, None, True]}
    request_id = await client.submit(hand.model, value)
    (job,) = await hand.take()
    assert job.request_id == request_id
    assert job.input == value


async def test_arrays_go_as_lists(client: AsyncClient, hand: Hand) -> None:
    await client.submit(hand.model, {"pixels": array("d", [1.0, 0.5])})
    (job,) = await hand.take()
    assert job.input == {"pixels": [1.0, 0.5]}


async def test_a_lost_reply_makes_no_second_job(api: Api, hand: Hand) -> None:
    async with Proxy("127.0.0.1", api.port) as proxy, AsyncClient(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.cut_replies(2)
        request_id = await client.submit(hand.model, "once")
        assert proxy.hits == 2
    assert [job.request_id for job in await hand.take()] == [request_id]


async def test_a_lost_reply_to_a_batch_makes_no_second_jobs(api: Api, hand: Hand) -> None:
    async with Proxy("127.0.0.1", api.port) as proxy, AsyncClient(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.cut_replies()
        request_ids = await client.submit_many(hand.model, range(20))
        assert proxy.hits == 1
    assert [(job.request_id, job.input) for job in await hand.take()] == list(zip(request_ids, range(20), strict=True))


async def test_the_same_key_finds_the_same_job(client: AsyncClient, hand: Hand) -> None:
    first = await client.submit(hand.model, 1, idempotency_key="order-7")
    assert await client.submit(hand.model, 1, idempotency_key="order-7") == first
    assert len(await hand.take()) == 1


async def test_a_key_used_for_something_else_is_a_conflict(client: AsyncClient, hand: Hand) -> None:
    first = await client.submit(hand.model, 1, idempotency_key="order-8")
    with pytest.raises(Conflict) as caught:
        await client.submit(hand.model, 2, idempotency_key="order-8")
    assert caught.value.request_id == first


async def test_a_model_nobody_ever_served_is_refused(client: AsyncClient, model: str) -> None:
    with pytest.raises(UnknownModel, match=model) as caught:
        await client.submit(model, 1)
    assert caught.value.model == model


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("two words", 1, "model name"),
        ("m{0}", 1, "model name"),
        ("m" * 10_000, 1, "model name"),
        ("m", object(), "JSON"),
        ("m", {1, object()}, "JSON"),
    ],
)
async def test_what_cannot_be_right_says_why(client: AsyncClient, name: str, value: object, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        await client.submit(name, value)


async def test_wrong_options_say_why(client: AsyncClient, hand: Hand) -> None:
    with pytest.raises(InvalidInput, match="priority"):
        await client.submit(hand.model, 1, priority="urgent")
    with pytest.raises(InvalidInput, match="timeout_seconds"):
        await client.submit(hand.model, 1, timeout_seconds=-1)
    with pytest.raises(InvalidInput, match="1 to 200"):
        await client.submit(hand.model, 1, idempotency_key="naïve")
    assert await hand.take() == []


async def test_one_bad_job_does_not_fail_the_others(client: AsyncClient, hand: Hand) -> None:
    answers = await client.submit_many(
        [
            JobRequest(hand.model, "a"),
            JobRequest(hand.model, object()),
            JobRequest("never registered", "b"),
            JobRequest("never-registered", "c"),
            JobRequest(hand.model, "d", priority="high"),
        ]
    )
    first, unwritable, misnamed, unknown, last = answers
    assert isinstance(unwritable, InvalidInput)
    assert isinstance(misnamed, InvalidInput)
    assert isinstance(unknown, UnknownModel)
    assert {job.request_id: job.input for job in await hand.take()} == {first: "a", last: "d"}


async def test_more_than_fit_one_request_keep_their_order(client: AsyncClient, hand: Hand) -> None:
    request_ids = await client.submit_many(hand.model, range(1200))
    taken = {job.request_id: job.input for job in await hand.take()}
    assert taken == dict(zip(request_ids, range(1200), strict=True))


async def test_a_full_backlog_says_when_to_come_back(start_api: StartApi, hand: Hand) -> None:
    api = start_api(max_backlog=3)
    await api.ready()
    async with AsyncClient(api.url, patience=0.0) as client:
        answers = await client.submit_many(hand.model, range(5))
        assert [isinstance(answer, str) for answer in answers] == [True, True, True, False, False]
        with pytest.raises(BacklogFull) as caught:
            await client.submit(hand.model, 5)
    assert caught.value.retry_after > 0
    assert caught.value.model == hand.model
    assert await hand.backlog() == 3


async def test_a_full_backlog_is_waited_out(start_api: StartApi, hand: Hand) -> None:
    api = start_api(max_backlog=3)
    await api.ready()
    async with AsyncClient(api.url, patience=60.0) as client:
        one = asyncio.create_task(client.submit(hand.model, "one"))
        many = asyncio.create_task(client.submit_many(hand.model, range(9)))
        taken: list[Taken] = []
        while len(taken) < 10:
            taken += await hand.take()
            await asyncio.sleep(0.01)
        answers = await many
        assert {job.request_id for job in taken} == {await one, *answers}
    assert sorted(job.input for job in taken if job.input != "one") == list(range(9))


async def test_a_durability_that_was_not_confirmed_is_not_accepted(api: Api, hand: Hand) -> None:
    async with AsyncClient(api.url, patience=0.0) as client:
        for _ in range(2):
            with pytest.raises(NotDurable):
                await client.submit(hand.model, 1, durability="replicated", idempotency_key=hand.model)
    assert len(await hand.take()) == 1


async def test_no_answer_from_the_address(free_port: int) -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port}", patience=0.2) as client:
        with pytest.raises(Unreachable, match=str(free_port)):
            await client.submit("m", 1)
        (answer,) = await client.submit_many("m", [1])
        assert isinstance(answer, Unreachable)


async def test_an_address_that_cannot_be_one() -> None:
    for url in ("localhost:8000", "ftp://localhost", "http://", "http://[::1"):
        with pytest.raises(InvalidInput):
            AsyncClient(url)


async def test_redis_away_is_said(start_api: StartApi, free_port: int, hand: Hand) -> None:
    api = start_api(f"redis://127.0.0.1:{free_port}/0")
    async with AsyncClient(api.url, patience=30.0) as client:
        await client.request("GET", "/livez")
    async with AsyncClient(api.url, patience=0.0) as client:
        with pytest.raises(RedisUnavailable):
            await client.submit(hand.model, 1)
