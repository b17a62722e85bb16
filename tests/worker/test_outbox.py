"""The outbox: few large calls, and nothing lost when Redis does not take them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from harness.stage import until
from redis.exceptions import ResponseError

from coordinator.core.errors import RedisUnavailable
from coordinator.worker.deliveries import Delivery
from coordinator.worker.outbox import Outbox


class Redis:
    """Takes outcomes, or not."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.failures: list[Exception] = []
        self.poison: set[int] = set()
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, _: Sequence[Delivery], outcomes: Sequence[int]) -> Sequence[object]:
        await self.open.wait()
        if self.failures:
            raise self.failures.pop()
        if self.poison & set(outcomes):
            raise ResponseError("ERR no")
        self.calls.append(list(outcomes))
        return [outcome * 10 for outcome in outcomes]


class Shelf:
    """An outbox, and what it said."""

    def __init__(self, size: int = 1) -> None:
        self.redis = Redis()
        self.settled: dict[bytes, object] = {}
        self.outbox: Outbox[int] = Outbox(self.redis.send, self._settle, lambda _: size, "m")

    def _settle(self, deliveries: Sequence[Delivery], answers: Sequence[object]) -> None:
        self.settled.update(zip([delivery.entry for delivery in deliveries], answers, strict=True))

    def put(self, *outcomes: int) -> None:
        for outcome in outcomes:
            self.outbox.put(Delivery(outcome, b"%d" % outcome, b"", b"1", b"", b"", 30.0, 0.0), outcome)
        self.outbox.flush()


async def test_what_comes_while_a_call_is_under_way_shares_the_next() -> None:
    shelf = Shelf()
    shelf.redis.open.clear()
    shelf.put(1)
    await asyncio.sleep(0)
    shelf.put(2)
    shelf.put(3, 4)
    assert shelf.outbox.pending == 4
    shelf.redis.open.set()
    await shelf.outbox.drained()
    assert shelf.redis.calls == [[1], [2, 3, 4]]
    assert shelf.settled == {b"1": 10, b"2": 20, b"3": 30, b"4": 40}
    assert shelf.outbox.pending == 0


async def test_calls_have_a_limit_in_number_and_in_bytes() -> None:
    shelf = Shelf()
    shelf.put(*range(600))
    await shelf.outbox.drained()
    assert [len(call) for call in shelf.redis.calls] == [256, 256, 88]
    shelf = Shelf(size=1 << 19)
    shelf.put(*range(5))
    await shelf.outbox.drained()
    assert [len(call) for call in shelf.redis.calls] == [2, 2, 1]


async def test_it_goes_on_until_redis_takes_them() -> None:
    shelf = Shelf()
    shelf.redis.failures = [RedisUnavailable("away"), RedisUnavailable("away")]
    shelf.put(1, 2)
    await shelf.outbox.drained()
    assert shelf.redis.calls == [[1, 2]]


async def test_one_that_can_not_be_told_does_not_hold_up_the_others() -> None:
    shelf = Shelf()
    shelf.redis.poison = {2}
    shelf.put(1, 2, 3)
    await shelf.outbox.drained()
    assert shelf.settled == {b"1": 10, b"2": None, b"3": 30}


async def test_closed_it_sends_no_more() -> None:
    shelf = Shelf()
    shelf.redis.open.clear()
    shelf.put(1)
    await asyncio.sleep(0)
    shelf.outbox.close()
    await until(lambda: shelf.outbox._sending is None)
    assert shelf.redis.calls == []
