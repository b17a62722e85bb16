"""Promoter, expirer and rebalancer: one round each, by hand, and their rests."""

from __future__ import annotations

import pytest
from harness.clock import ManualClock
from harness.field import Field

from coordinator.core import keys, steps
from coordinator.core.settings import Settings
from coordinator.dispatcher.expirer import Expirer
from coordinator.dispatcher.promoter import Promoter
from coordinator.dispatcher.rebalancer import Rebalancer


@pytest.fixture
def promoter(field: Field, settings: Settings, clock: ManualClock) -> Promoter:
    return Promoter(field.partition, settings, clock)


@pytest.fixture
def expirer(field: Field, settings: Settings, clock: ManualClock) -> Expirer:
    return Expirer(field.partition, settings, clock)


@pytest.fixture
def rebalancer(field: Field, settings: Settings, clock: ManualClock) -> Rebalancer:
    return Rebalancer(field.partition, settings, clock)


async def test_delayed_work_goes_to_its_lane_when_it_is_due(field: Field, promoter: Promoter) -> None:
    await field.register()
    request_id = await field.put(delay=60_000)
    assert 0 < await promoter.promote() <= 0.25
    assert await field.lane() == []
    await field.fall_due()
    await promoter.promote()
    assert await field.lane() == [request_id]


async def test_with_more_that_is_due_it_does_not_rest(field: Field, promoter: Promoter) -> None:
    await field.register()
    await field.submit(*[await field.submission(delay=60_000) for _ in range(300)])
    await field.fall_due()
    assert await promoter.promote() == 0
    await promoter.promote()
    assert len(await field.lane()) == 300


async def test_what_nobody_took_in_time_expires(field: Field, expirer: Expirer) -> None:
    await field.register("w", m="4:4", x="4:4")
    late = [await field.put(model, lane=lane, ttl=-1) for model in ("m", "x") for lane in keys.PRIORITIES]
    good = await field.put()
    assert await expirer.expire() > 0
    assert set(await field.statuses(late)) == {"expired"}
    assert await field.lane() == [good]


async def test_a_deep_backlog_is_looked_through_in_several_rounds(field: Field, expirer: Expirer) -> None:
    await field.register()
    for _ in range(6):
        await field.submit(*[await field.submission() for _ in range(1000)], max_backlog=10_000)
    (receipt,) = await field.submit(await field.submission(ttl=-1), max_backlog=10_000)
    late = receipt.request_id
    await expirer.expire()
    assert (await field.record(late)).status == "queued"
    await expirer.expire()
    assert (await field.record(late)).status == "expired"


async def test_unread_work_moves_to_who_is_free(field: Field, rebalancer: Rebalancer) -> None:
    await field.register("busy", m="1:4")
    await field.put_many(4)
    await field.assign("busy")
    await field.take("busy", count=1)
    await field.register("free", m="2:4")
    await rebalancer.rebalance()
    assert len(await field.inbox("free")) == 2
    await field.complete(*(job.done() for job in await field.take("free")), worker="free")
    await rebalancer.rebalance()
    assert (len(await field.inbox("busy")), len(await field.inbox("free"))) == (1, 1)


async def test_with_nothing_outstanding_it_rests_longer(field: Field, rebalancer: Rebalancer) -> None:
    await field.register("a")
    await field.register("b")
    idle = await rebalancer.rebalance()
    await field.put()
    await field.assign("a")
    assert await rebalancer.rebalance() < idle


async def test_work_moves_across_more_workers_than_one_call_looks_at(field: Field, rebalancer: Rebalancer) -> None:
    await field.register("a-busy", m="1:50")
    await field.put_many(50)
    await field.assign("a-busy")
    await field.take("a-busy", count=1)
    for i in range(150):
        await field.register(f"full{i:03}", m="1:1")
    await field.put_many(150)
    for at in (0, 75):
        await field.assign(*(f"full{i:03}" for i in range(at, at + 75)))
    for i in range(150):
        await field.take(f"full{i:03}")
    await field.register("z-free", m="4:4")
    for _ in range(10):
        await rebalancer.rebalance()
    assert len(await field.inbox("z-free")) == 4


async def test_a_draining_worker_keeps_nothing_unread_for_long(field: Field, rebalancer: Rebalancer) -> None:
    """Not the rebalancer's: the reclaimer gives it back. The rebalancer must leave it alone."""
    await field.register("draining", m="1:4")
    await field.put_many(2)
    await field.assign("draining")
    await steps.drain(field.partition, "draining")
    await field.register("free", m="4:4")
    await field.register("other", m="4:4")
    await rebalancer.rebalance()
    assert len(await field.inbox("draining")) == 2
