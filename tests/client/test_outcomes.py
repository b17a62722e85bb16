"""Waiting for outcomes over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from client.fixtures import StartApi
from client.hand import Hand, Taken

from coordinator.client import AsyncClient, InvalidState, JobFailed, JobResult, NotFound, WaitTimeout


async def _take(hand: Hand, count: int) -> list[Taken]:
    """Take jobs until there are `count`."""
    taken: list[Taken] = []
    while len(taken) < count:
        taken += await hand.take()
        await asyncio.sleep(0)
    return taken


async def test_a_waiter_gets_the_outcome(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, [1, 2])
    waiting = asyncio.create_task(client.wait(request_id))
    (job,) = await hand.take()
    await hand.finish(job, {"sum": 3})
    result = await waiting
    assert (result.status, result.attempts, result.worker_id) == ("succeeded", 1, hand.name)
    assert result.value() == {"sum": 3}
    assert result.finished_at is not None
    assert result.finished_at >= result.submitted_at


async def test_a_value_is_checked_against_its_type(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    (job,) = await hand.take()
    await hand.finish(job, [7])
    result = await client.result(request_id)
    assert result.value(list[int]) == [7]
    with pytest.raises(msgspec.ValidationError):
        result.value(dict[str, int])


async def test_the_state_on_the_way(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    assert (await client.result(request_id)).status == "queued"
    (job,) = await hand.take()
    state = await client.result(request_id)
    assert (state.status, state.worker_id) == ("running", hand.name)
    with pytest.raises(JobFailed, match="running"):
        state.value()
    await hand.finish(job, None)
    assert (await client.result(request_id)).value() is None


async def test_a_wait_that_is_over_says_what_held_last(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    with pytest.raises(WaitTimeout) as caught:
        await client.wait(request_id, timeout=0.05)
    assert caught.value.result.status == "queued"
    assert isinstance(caught.value, TimeoutError)


async def test_a_failed_job_has_a_reason_and_no_value(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    (job,) = await hand.take()
    await hand.fail(job, "no such word")
    result = await client.wait(request_id)
    assert result.status == "failed"
    assert result.dead_letter
    with pytest.raises(JobFailed, match="no such word") as caught:
        result.value()
    assert caught.value.result is result


@pytest.mark.parametrize("request_id", ["0-5873291-abcdefghij234567", "nonsense", "a/b", "0-1-" + "x" * 5000])
async def test_an_id_that_names_no_job(client: AsyncClient, request_id: str) -> None:
    with pytest.raises(NotFound):
        await client.result(request_id)
    with pytest.raises(NotFound):
        await client.wait(request_id)


async def test_a_wait_survives_a_restart_of_the_api(start_api: StartApi, hand: Hand) -> None:
    api = start_api()
    await api.ready()
    async with AsyncClient(api.url, patience=60.0) as client:
        request_id = await client.submit(hand.model, 1)
        (job,) = await hand.take()
        waiting = asyncio.create_task(client.wait(request_id))
        await hand.waited_for(request_id)
        api.kill()
        await hand.finish(job, "done meanwhile")
        api.start()
        assert (await waiting).value() == "done meanwhile"


async def test_map_keeps_the_order_of_its_inputs(client: AsyncClient, hand: Hand) -> None:
    async def collect() -> list[int]:
        return [result.value(int) async for result in client.map(hand.model, range(10), window=10)]

    collecting = asyncio.create_task(collect())
    for job in reversed(await _take(hand, 10)):
        await hand.finish(job, job.input * 2)
    assert await collecting == [i * 2 for i in range(10)]


async def test_map_never_has_more_in_flight_than_its_window(client: AsyncClient, hand: Hand) -> None:
    read = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    results = client.map(hand.model, endless(), window=4)
    for round_ in range(5):
        following = asyncio.ensure_future(anext(results))
        for job in await _take(hand, 4 if round_ == 0 else 1):
            await hand.finish(job, job.input)
        assert (await following).value() == round_
        # What was read beyond the window waits for its turn, and is not submitted.
        assert read <= 4 + round_ + 1
    await results.aclose()
    assert len(await hand.take()) <= 4


async def test_map_yields_failures_as_they_are(client: AsyncClient, hand: Hand) -> None:
    async def collect() -> list[JobResult]:
        return [result async for result in client.map(hand.model, ["good", "bad"])]

    collecting = asyncio.create_task(collect())
    for job in await _take(hand, 2):
        await (hand.finish(job, 1) if job.input == "good" else hand.fail(job, "bad"))
    assert [result.status for result in await collecting] == ["succeeded", "failed"]


async def test_cancel(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    waiting = asyncio.create_task(client.wait(request_id))
    await client.cancel(request_id)
    await client.cancel(request_id)
    assert (await waiting).status == "cancelled"
    assert await hand.take() == []


async def test_cancel_too_late(client: AsyncClient, hand: Hand) -> None:
    request_id = await client.submit(hand.model, 1)
    (job,) = await hand.take()
    await hand.finish(job, 1)
    with pytest.raises(InvalidState, match="succeeded"):
        await client.cancel(request_id)
    with pytest.raises(NotFound):
        await client.cancel("0-5873291-abcdefghij234567")
