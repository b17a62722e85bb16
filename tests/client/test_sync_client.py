"""The client for code without an event loop does what the other one does, from any thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from client.fixtures import Api
from client.hand import Hand

from coordinator.client import Client, NotFound, UnknownModel


async def _work(hand: Hand, count: int) -> None:
    done = 0
    while done < count:
        for job in await hand.take():
            await hand.finish(job, job.input + 1)
            done += 1
        await asyncio.sleep(0.001)


async def test_submit_and_wait(api: Api, hand: Hand) -> None:
    def produce() -> list[int]:
        with Client(api.url) as client:
            one = client.submit(hand.model, 1)
            many = client.submit_many(hand.model, [2, 3])
            return [client.wait(request_id).value(int) for request_id in (one, *many) if isinstance(request_id, str)]

    values, _ = await asyncio.gather(asyncio.to_thread(produce), _work(hand, 3))
    assert values == [2, 3, 4]


async def test_map(api: Api, hand: Hand) -> None:
    def produce() -> list[int]:
        with Client(api.url) as client:
            return [result.value(int) for result in client.map(hand.model, range(20), window=3)]

    values, _ = await asyncio.gather(asyncio.to_thread(produce), _work(hand, 20))
    assert values == list(range(1, 21))


async def test_map_left_early_leaves_nothing_running(api: Api, hand: Hand) -> None:
    def produce() -> int:
        with Client(api.url) as client:
            for result in client.map(hand.model, range(1000), window=2):
                return result.value(int)
        return 0

    value, _ = await asyncio.gather(asyncio.to_thread(produce), _work(hand, 1))
    assert value == 1


async def test_many_threads_share_one_client(api: Api, hand: Hand) -> None:
    def produce() -> set[str]:
        with Client(api.url) as client, ThreadPoolExecutor(8) as pool:
            return set(pool.map(lambda i: client.submit(hand.model, i), range(50)))

    request_ids = await asyncio.to_thread(produce)
    assert {job.request_id for job in await hand.take()} == request_ids
    assert len(request_ids) == 50


async def test_errors_are_the_same(api: Api, model: str) -> None:
    def produce() -> None:
        with Client(api.url) as client:
            with pytest.raises(UnknownModel):
                client.submit(model, 1)
            with pytest.raises(NotFound):
                client.result("nonsense")
        with pytest.raises(RuntimeError, match="closed"):
            client.submit(model, 1)

    await asyncio.to_thread(produce)
