"""Reading an inbox: only as much as there is room for, and never losing what Redis thinks it has delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness.field import Field
from harness.field import until as async_until
from harness.stage import until

from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.core.duty import stop
from coordinator.worker.deliveries import Delivery, Reading
from coordinator.worker.inbox import Inbox


class Desk:
    """Takes deliveries, as a service does."""

    def __init__(self, field: Field, free: int = 100) -> None:
        self.free = asyncio.Semaphore(0)
        self.slots = free
        self.known: dict[bytes, Delivery] = {}
        self.ids: list[str] = []
        self.gone = 0
        self.field = field
        self.inbox = Inbox(
            field.partition,
            "w",
            "m",
            Reading("m", 30.0),
            slots=self._free,
            deliver=self._deliver,
            known=self.known.keys(),
            gone=self._gone,
        )

    async def _free(self) -> int:
        while not self.slots:
            await self.free.acquire()
        return self.slots

    def _deliver(self, deliveries: list[Delivery]) -> None:
        self.slots -= len(deliveries)
        for delivery in deliveries:
            assert delivery.entry not in self.known
            self.known[delivery.entry] = delivery
            self.ids.append(delivery.request_id.decode())

    async def _gone(self) -> None:
        self.gone += 1
        await self.field.register()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.inbox.run())
        yield
        assert not task.done()
        await stop([task])


@pytest.fixture
async def field(connections: Connections) -> AsyncIterator[Field]:
    field = Field(connections.partitions[0])
    await field.register()
    yield field
    await field.census()


async def test_it_reads_as_many_as_there_are_free_slots(field: Field) -> None:
    desk = Desk(field, free=3)
    ids = await field.put_many(5)
    await field.assign()
    async with desk.reading():
        await until(lambda: len(desk.ids) == 3)
        assert (await field.redis.xpending(keys.inbox(0, "w", "m"), "worker"))["pending"] == 3
        desk.slots = 2
        desk.free.release()
        await until(lambda: desk.ids == ids)


async def test_it_takes_up_what_was_delivered_into_the_void(field: Field) -> None:
    desk = Desk(field)
    ids = await field.put_many(3)
    await field.assign()
    assert len(await field.take(count=2)) == 2  # in our name, but we never saw it
    async with desk.reading():
        await until(lambda: sorted(desk.ids) == sorted(ids))


async def test_it_takes_up_what_a_read_took_whose_line_was_cut_before(field: Field) -> None:
    """Redis serves such a read until it notices, and before ours, which began later."""
    ghost = field.partition.blocking()
    desk = Desk(field)
    void = asyncio.create_task(
        ghost.connection_pool.call(  # type: ignore[attr-defined]  # our own pool
            *("XREADGROUP", "GROUP", keys.INBOX_GROUP, "w", "BLOCK", 0, "STREAMS", keys.inbox(0, "w", "m"), ">")
        )
    )

    async def blocked(count: int) -> bool:
        return int((await field.redis.info("clients"))["blocked_clients"]) >= count

    await async_until(lambda: blocked(1))
    async with desk.reading():
        await async_until(lambda: blocked(2))
        request_id = await field.put()
        await field.assign()
        await void
        await until(lambda: desk.ids == [request_id])
    await ghost.aclose()


async def test_after_a_lost_connection_it_does_so_again_and_runs_nothing_twice(field: Field) -> None:
    desk = Desk(field, free=1)
    first = await field.put()
    await field.assign()
    async with desk.reading():
        await until(lambda: desk.ids == [first])
        # It has no free slot and does not read; so this one goes to us, in its name.
        second = await field.given()
        desk.slots = 2
        desk.free.release()
        while desk.ids == [first]:
            await _cut(field)
            await asyncio.sleep(0.01)
        assert desk.ids == [first, second.request_id]


async def test_an_inbox_that_is_gone_is_asked_for_again(field: Field) -> None:
    desk = Desk(field)
    await field.redis.delete(keys.inbox(0, "w", "m"), keys.worker(0, "w"))
    async with desk.reading():
        await until(lambda: desk.gone == 1)
        job = await field.put()
        await field.assign()
        await until(lambda: desk.ids == [job])


async def test_unread_and_lost_entries_can_be_fetched_for_handing_them_back(field: Field) -> None:
    desk = Desk(field)
    ids = await field.put_many(4)
    await field.assign()
    (known,) = await field.take(count=1)
    desk.known[known.entry] = Delivery(1, known.entry, b"", b"1", b"", b"", 30.0, 0.0)
    await field.take(count=1)
    assert sorted(one.request_id.decode() for one in await desk.inbox.unread()) == sorted(ids[1:])


async def test_inputs_out_of_line_come_with_their_entries(field: Field) -> None:
    desk = Desk(field)
    await field.put(blob=b'"large"')
    await field.put()
    await field.assign()
    async with desk.reading():
        await until(lambda: len(desk.known) == 2)
    assert [delivery.input for delivery in desk.known.values()] == [b'"large"', b"0"]


async def _cut(field: Field) -> None:
    """Cut the connections of blocking readers."""
    clients: list[dict[str, Any]] = await field.redis.client_list()
    for client in clients:
        if client["name"].endswith("-blocking"):
            await field.redis.client_kill_filter(_id=client["id"])
