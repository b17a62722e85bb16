"""Marks: what waits at the gate is known to Redis, and what was taken away meanwhile is not started."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.field import Field

from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.worker.deliveries import Delivery, Reading
from coordinator.worker.marks import Marks


class Bench:
    """Two jobs that the worker has read and holds back."""

    def __init__(self, connections: Connections) -> None:
        self.field = Field(connections.partitions[0])
        self.outstanding: dict[bytes, Delivery] = {}
        self.marks = Marks(self.field.partition, "w", "m", self.outstanding, self._lost)
        self.lost: list[bytes] = []
        self.started: list[Delivery] = []

    def _lost(self, entries: Sequence[bytes]) -> None:
        self.lost += entries
        for entry in entries:
            self.outstanding[entry].answered = True

    async def hold(self) -> list[Delivery]:
        await self.field.register()
        await self.field.put_many(2)
        await self.field.assign()
        rows = await self.field.redis.execute_command(
            "XREADGROUP", "GROUP", keys.INBOX_GROUP, "w", "STREAMS", keys.inbox(0, "w", "m"), ">"
        )
        held = Reading("m", 30.0).deliveries(rows[0][1], time.monotonic())
        for delivery in held:
            delivery.held = True
            self.outstanding[delivery.entry] = delivery
        await self.marks.renew()
        assert await self.counts() == [0, 0]
        return held

    async def release(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.held = False
        self.marks.release(deliveries, self.started.extend)
        await self.marks.settled()

    async def counts(self) -> list[int]:
        """How often Redis thinks that each was started."""
        rows = await self.field.redis.xpending_range(keys.inbox(0, "w", "m"), keys.INBOX_GROUP, "-", "+", 10)
        return [row["times_delivered"] for row in rows]


async def test_what_waited_is_started_once_redis_knows(connections: Connections) -> None:
    bench = Bench(connections)
    held = await bench.hold()
    await bench.release(held)
    assert await bench.counts() == [1, 1]
    assert bench.started == held
    assert bench.lost == []


async def test_what_was_taken_away_while_it_waited_is_not_started(connections: Connections) -> None:
    """Its lease was over for a moment: the jobs are with somebody else, who was not told of any attempt."""
    bench = Bench(connections)
    held = await bench.hold()
    inbox = keys.inbox(0, "w", "m")
    await bench.field.redis.xack(inbox, keys.INBOX_GROUP, held[0].entry)
    await bench.field.redis.xdel(inbox, held[0].entry)
    await bench.release(held)
    assert bench.lost == [held[0].entry]
    assert [delivery.answered for delivery in bench.started] == [True, False]


async def test_without_its_inbox_nothing_that_waited_is_started(connections: Connections) -> None:
    bench = Bench(connections)
    held = await bench.hold()
    await bench.field.end_lease()
    assert (await bench.field.reclaim()).requeued == 2
    await bench.release(held)
    assert bench.lost == [delivery.entry for delivery in held]
    assert all(delivery.answered for delivery in bench.started)
