"""rebalance and held: unread work moves to who is free; a worker learns what it lost."""

from __future__ import annotations

from harness.field import Field

from coordinator.core import keys, steps


async def _rebalance(field: Field, *workers: str, count: int = 256, stuck_after_ms: int = 1000) -> tuple[int, int]:
    return await steps.rebalance(field.partition, "m", workers, count=count, stuck_after_ms=stuck_after_ms)


async def test_unread_work_moves_to_who_has_a_free_slot(both: Field) -> None:
    await both.register("busy", m="1:4")
    ids = await both.put_many(4)
    await both.assign("busy")
    (running,) = await both.take("busy", count=1)
    await both.register("idle", m="2:4")
    assert await _rebalance(both, "busy", "idle") == (2, 4)
    assert len(await both.inbox("idle")) == 2
    assert running.request_id in await both.inbox("busy")
    assert await both.complete(running.done(), worker="busy") == [1]
    moved = await both.take("idle")
    assert {job.request_id for job in moved} < set(ids[1:])
    assert await both.complete(*(job.done() for job in moved), worker="idle") == [1, 1]


async def test_read_work_never_moves(both: Field) -> None:
    await both.register("busy", m="1:4")
    await both.put_many(4)
    await both.assign("busy")
    assert len(await both.take("busy")) == 4
    await both.register("idle", m="4:4")
    assert (await _rebalance(both, "busy", "idle"))[0] == 0
    assert len(await both.inbox("busy")) == 4


async def test_workers_at_capacity_get_nothing_more(both: Field) -> None:
    await both.register("a", m="1:3")
    await both.register("b", m="1:3")
    await both.put_many(6)
    await both.assign("a", "b")
    assert await _rebalance(both, "a", "b") == (0, 6)


async def test_at_most_so_many_move(both: Field) -> None:
    await both.register("busy", m="1:9")
    await both.put_many(9)
    await both.assign("busy")
    await both.register("idle", m="9:9")
    assert (await _rebalance(both, "busy", "idle", count=3))[0] == 3


async def test_a_worker_with_free_slots_that_does_not_read_loses_what_it_has(both: Field) -> None:
    await both.register("stuck", m="4:8")
    ids = await both.put_many(2)
    await both.assign("stuck")
    await both.register("idle", m="4:8")
    assert await _rebalance(both, "stuck", "idle") == (0, 2)
    assert await _rebalance(both, "stuck", "idle", stuck_after_ms=-1) == (2, 2)
    assert sorted(await both.inbox("idle")) == sorted(ids)


async def test_lost_and_draining_workers_are_left_out(both: Field) -> None:
    await both.register("busy", m="1:4")
    await both.put_many(4)
    await both.assign("busy")
    await both.register("lost")
    await both.register("draining")
    await both.end_lease("lost")
    await steps.drain(both.partition, "draining")
    assert await _rebalance(both, "busy", "lost", "draining", "nobody") == (0, 4)
    assert await _rebalance(both) == (0, 0)


async def test_a_moved_job_keeps_its_attempt_and_its_history(both: Field) -> None:
    await both.register("first")
    job = await both.given("first")
    await both.end_lease("first")
    await both.reclaim("first")
    await both.register("busy", m="1:4")
    await both.put_many(1)
    await both.assign("busy")
    await both.register("idle", m="4:4")
    await both.redis.delete(keys.wake(0))
    assert (await _rebalance(both, "busy", "idle", stuck_after_ms=-1))[0] >= 1
    moved = {got.request_id: got for worker in ("busy", "idle") for got in await both.take(worker)}
    assert (moved[job.request_id].attempt, moved[job.request_id].crashed) == (2, ("first",))


async def test_it_wakes_a_starved_model(both: Field) -> None:
    await both.register("busy", m="1:2")
    await both.put_many(3)
    assert (await both.assign("busy")).state == "starved"
    await both.register("idle", m="1:2")
    await both.woken()
    assert (await _rebalance(both, "busy", "idle"))[0] == 1
    assert await both.woken() == {"m"}


async def test_held_names_what_was_lost(both: Field) -> None:
    await both.register()
    await both.put_many(4)
    await both.assign()
    kept, cancelled, done, overdue = await both.take()
    await steps.cancel(both.partition, cancelled.request_id)
    await both.complete(done.done())
    await both.let_run(overdue, 60_000)
    await both.overdue()
    entries = [kept.entry, cancelled.entry, done.entry, overdue.entry]
    assert await steps.held(both.partition, "w", "m", entries) == entries[1:]
    assert await steps.held(both.partition, "w", "m", []) == []
    assert await steps.held(both.partition, "nobody", "m", [kept.entry]) == [kept.entry]
