"""The assigner: woken by work and by room, deals round-robin, and forgets nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from harness.clock import ManualClock
from harness.field import Field, until

from coordinator.core import keys
from coordinator.core.clock import SystemClock
from coordinator.core.settings import Settings
from coordinator.dispatcher.assigner import Assigner


@pytest.fixture
def assigner(field: Field, settings: Settings, clock: ManualClock) -> Assigner:
    return Assigner(field.partition, settings, clock)


@contextlib.asynccontextmanager
async def _running(*assigners: Assigner) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(assigner.run()) for assigner in assigners]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)


async def _held(field: Field, *workers: str) -> list[int]:
    return [len(await field.inbox(worker)) for worker in workers]


async def _fleet(field: Field, count: int, offer: str) -> list[str]:
    """Workers w000, w001 … that serve the model."""
    names = [f"w{number:03}" for number in range(count)]
    for name in names:
        await field.register(name, m=offer)
    return names


async def test_round_robin_is_visible(field: Field, assigner: Assigner) -> None:
    for worker in ("a", "b", "c"):
        await field.register(worker, m="50:50")
    for _ in range(30):
        await field.put()
        assert await assigner.assign("m") == 1
    assert await _held(field, "a", "b", "c") == [10, 10, 10]


async def test_a_large_backlog_goes_in_several_batches(field: Field, settings: Settings, clock: ManualClock) -> None:
    assigner = Assigner(field.partition, settings.model_copy(update={"assign_batch": 10}), clock)
    await field.register("a", m="500:500")
    await field.put_many(75)
    assert await assigner.assign("m") == 75


async def test_after_some_batches_another_model_gets_its_turn(
    field: Field, settings: Settings, clock: ManualClock
) -> None:
    assigner = Assigner(field.partition, settings.model_copy(update={"assign_batch": 10}), clock)
    await field.register("a", m="500:500")
    await field.put_many(200)
    await field.woken()
    assert await assigner.assign("m") == 80
    assert await field.woken() == {"m"}


async def test_room_is_respected_and_the_rest_waits(field: Field, assigner: Assigner) -> None:
    await field.register("a", m="1:2")
    await field.register("b", m="1:3")
    await field.put_many(9)
    assert await assigner.assign("m") == 5
    assert await _held(field, "a", "b") == [2, 3]
    assert len(await field.lane()) == 4


async def test_more_workers_than_one_call_looks_at(field: Field, assigner: Assigner) -> None:
    workers = await _fleet(field, 230, "1:2")
    await field.put_many(470)
    assert await assigner.assign("m") == 460
    assert set(await _held(field, *workers)) == {2}
    assert len(await field.lane()) == 10


async def test_a_large_fleet_gets_its_work_evenly(field: Field, assigner: Assigner) -> None:
    workers = await _fleet(field, 250, "8:8")
    await field.put_many(250)
    assert await assigner.assign("m") == 250
    assert set(await _held(field, *workers)) == {1}
    for _ in range(50):
        await field.put()
        assert await assigner.assign("m") == 1
    assert sorted(await _held(field, *workers)) == [1] * 200 + [2] * 50


async def test_in_a_large_fleet_a_full_page_is_not_asked_each_time(
    field: Field, settings: Settings, clock: ManualClock
) -> None:
    """Looking at full workers costs Redis as much as dealing does."""
    assigner = Assigner(field.partition, settings, clock)
    for number in range(250):
        await field.register(f"w{number:03}", m="1:1" if number else "500:500")
    await field.put_many(249)
    while await assigner.assign("m"):
        pass
    await field.partition.redis.config_resetstat()
    for _ in range(20):
        await field.put()
        assert await assigner.assign("m") == 1
    assert await _looks(field) < 20 * (84 + 10) + 2 * 84


async def test_pages_that_rested_when_their_model_was_woken_are_asked_once(
    field: Field, settings: Settings, clock: ManualClock
) -> None:
    assigner = Assigner(field.partition, settings, clock)
    names = await _fleet(field, 250, "1:1")
    await field.put_many(260)
    while await assigner.assign("m"):
        pass
    clock.advance(0.001)
    (job,) = await field.take("w007")
    await field.complete(job.done(), worker="w007")
    (job,) = await field.take("w141")
    await field.complete(job.done(), worker="w141")
    given = await assigner.assign("m")
    for _ in range(3):
        clock.advance(1.0)
        await assigner.go_on()
    assert set(await _held(field, *names)) == {1}
    assert given < 2
    await field.partition.redis.config_resetstat()
    clock.advance(1.0)
    await assigner.go_on()
    assert await _looks(field) == 0


async def _looks(field: Field) -> int:
    """How often Redis was asked for the length of a stream."""
    stats = await field.partition.redis.info("commandstats")
    return int(stats.get("cmdstat_xlen", {"calls": 0})["calls"])


async def test_in_a_large_fleet_that_was_full_room_is_found_on_any_page(field: Field, settings: Settings) -> None:
    names = await _fleet(field, 250, "1:1")
    await field.put_many(250)
    async with _running(Assigner(field.partition, settings, SystemClock())):
        await until(lambda: _all_hold(field, names))
        for name in ("w249", "w000", "w130"):
            waiting = await field.put()
            (job,) = await field.take(name)
            await field.complete(job.done(), worker=name)

            async def given(name: str = name, request_id: str = waiting) -> bool:
                return await field.inbox(name) == [request_id]

            await until(given)


async def _all_hold(field: Field, names: list[str]) -> bool:
    return await _held(field, *names) == [1] * len(names)


async def test_a_worker_that_came_later_is_found_when_the_others_are_full(field: Field, assigner: Assigner) -> None:
    await field.register("a", m="1:1")
    await field.put_many(2)
    assert await assigner.assign("m") == 1
    await field.register("b", m="1:1")
    assert await assigner.assign("m") == 1
    assert await _held(field, "a", "b") == [1, 1]


async def test_workers_that_are_gone_get_nothing(field: Field, assigner: Assigner) -> None:
    await field.register("a", m="8:8")
    await field.register("b", m="8:8")
    await field.put_many(2)
    await assigner.assign("m")
    await field.reclaim("a", retire=True)
    await field.end_lease("b")
    await field.put()
    assert await assigner.assign("m") == 0


async def test_a_model_that_nobody_serves(field: Field, assigner: Assigner) -> None:
    assert await assigner.assign("nobody") == 0


async def test_it_is_woken_by_work_and_by_room(field: Field, settings: Settings) -> None:
    await field.register("w", m="1:1")
    async with _running(Assigner(field.partition, settings, SystemClock())):
        ids = await field.put_many(3)
        for request_id in ids:
            await until(lambda: field.inbox("w"))
            (job,) = await field.take()
            assert job.request_id == request_id
            await field.complete(job.done())


async def test_a_worker_that_joins_gets_its_share_though_the_others_have_room(field: Field, settings: Settings) -> None:
    await field.register("a", m="5000:5000")
    async with _running(Assigner(field.partition, settings, SystemClock())):
        await field.put()
        await until(lambda: field.inbox("a"))
        await field.register("b", m="5000:5000")

        async def shared() -> bool:
            await field.put()
            return len(await field.inbox("b")) > 0

        await until(shared)


async def test_a_worker_that_joins_is_known_from_the_next_batch_but_one(field: Field, assigner: Assigner) -> None:
    await field.register("a", m="5000:5000")
    await field.put()
    await assigner.assign("m")
    await field.register("b", m="5000:5000")
    for _ in range(3):
        await field.put()
        await assigner.assign("m")
    assert len(await field.inbox("b")) == 1


async def test_a_wake_that_was_popped_and_lost_is_made_up_for(field: Field, settings: Settings) -> None:
    """As when a dispatcher dies between the two."""
    await field.register("w")
    await field.put()
    await field.woken()
    async with _running(Assigner(field.partition, settings, SystemClock())):
        await until(lambda: field.inbox("w"))


async def test_two_assigners_share_the_work_and_lose_none(field: Field, settings: Settings) -> None:
    for worker in ("a", "b", "c"):
        await field.register(worker, m="500:500")
    async with _running(*(Assigner(field.partition, settings, SystemClock()) for _ in range(2))):
        ids: list[str] = []
        for _ in range(20):
            ids += await field.put_many(15)

        async def all_assigned() -> bool:
            return sum(await _held(field, "a", "b", "c")) == len(ids)

        await until(all_assigned)
        assert sum(await _held(field, "a", "b", "c")) == 300


async def test_it_lives_through_a_lost_connection(field: Field, settings: Settings) -> None:
    await field.register("w", m="50:50")
    async with _running(Assigner(field.partition, settings, SystemClock())):
        await field.put()
        await until(lambda: field.inbox("w"))
        await field.redis.client_kill_filter(_type="normal", skipme=True)
        await field.put()

        async def both() -> bool:
            return await _held(field, "w") == [2]

        await until(both)


async def test_with_nothing_to_do_it_sleeps_in_redis(field: Field, settings: Settings) -> None:
    await field.register("w")
    async with _running(Assigner(field.partition, settings, SystemClock())):
        await field.put()
        await until(lambda: field.inbox("w"))

        async def blocked() -> bool:
            info = await field.redis.info("clients")
            return int(info["blocked_clients"]) == 1 and not await field.redis.exists(keys.wake(0))

        await until(blocked)
