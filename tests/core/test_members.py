"""register, heartbeat, drain, forget: a worker's way in, its sign of life, and its way out."""

from __future__ import annotations

import pytest
from harness.field import HOUR_MS, Field

from coordinator.core import keys, steps


async def _heartbeat(field: Field, incarnation: str = "1", worker: str = "w", *, taking: bool = True) -> str:
    return await steps.heartbeat(field.partition, worker, incarnation, lease_ms=HOUR_MS, taking=taking)


async def _serving(field: Field, model: str = "m") -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await field.redis.hgetall(keys.serving(0, model))
    return found


async def test_a_worker_is_entered_with_its_lease_and_its_inboxes(both: Field) -> None:
    assert await both.register(m="4:8", x="1:2")
    assert await _serving(both) == {b"w": b"4:8"}
    assert await _serving(both, "x") == {b"w": b"1:2"}
    lease = await both.redis.zscore(keys.workers(0), "w")
    assert HOUR_MS - 60_000 < lease - await both.now_ms() <= HOUR_MS
    assert await both.take() == []  # the inbox and its group are there
    assert await both.woken() == {"m", "x"}


async def test_registering_again_keeps_what_it_holds(both: Field) -> None:
    """As after a lost reply."""
    await both.register()
    job = await both.given()
    assert await both.register()
    assert await both.complete(job.done()) == [1]


async def test_a_heartbeat_renews_the_lease(both: Field) -> None:
    await both.register()
    await both.end_lease()
    assert await _heartbeat(both) == "live"
    await both.put()
    assert (await both.assign()).moved == 1
    assert await _heartbeat(both, "") == "live"


async def test_a_heartbeat_of_nobody_or_of_a_former_life(both: Field) -> None:
    assert await _heartbeat(both) == "unknown"
    await both.register(incarnation="1")
    await both.register(incarnation="2")
    assert await _heartbeat(both, "1") == "superseded"
    assert await _heartbeat(both, "2") == "live"


async def test_a_lost_worker_must_register_again(both: Field) -> None:
    await both.register()
    await both.end_lease()
    await both.reclaim()
    assert await _heartbeat(both) == "unknown"
    assert await _serving(both) == {}
    assert await both.register()
    assert await _heartbeat(both) == "live"


async def test_a_worker_whose_loop_stands_still_keeps_its_work_and_gets_no_more(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await _heartbeat(both, taking=False) == "live"
    await both.put()
    assert await both.assign() == (0, 0, "starved")
    await both.woken()
    assert await _heartbeat(both) == "live"
    assert await both.woken() == {"m"}
    assert await _serving(both) == {b"w": b"8:16"}
    assert await both.complete(job.done()) == [1]


async def test_a_lease_that_comes_back_wakes_those_who_waited_for_it(both: Field) -> None:
    """It was late, but nobody had taken it for lost yet."""
    await both.register()
    await both.end_lease()
    await both.put()
    assert await both.assign() == (0, 0, "starved")
    await both.woken()
    assert await _heartbeat(both) == "live"
    assert await both.woken() == {"m"}
    assert await _heartbeat(both) == "live"
    assert await both.woken() == set()


async def test_a_draining_worker_gets_no_more_and_finishes_what_it_has(both: Field) -> None:
    await both.register()
    job = await both.given()
    assert await steps.drain(both.partition, "w")
    assert await _heartbeat(both) == "draining"
    await both.put()
    assert await both.assign() == (0, 0, "starved")
    assert await both.complete(job.done()) == [1]
    assert not await steps.drain(both.partition, "nobody")


async def test_a_second_life_takes_over_what_the_first_one_held(both: Field) -> None:
    await both.register(incarnation="1")
    first = await both.given()
    unread = await both.put()
    await both.assign()
    assert not await both.register(incarnation="2")
    assert await _heartbeat(both, "1") == "superseded"
    assert await both.reclaim() == (2, 0, False)
    assert await both.register(incarnation="2")
    assert await both.lane("retry") == [first.request_id, unread]
    await both.assign()
    one, other = await both.take()
    assert (one.attempt, one.crashed) == (2, ("w",))
    assert (other.attempt, other.crashed) == (1, ())


async def test_an_idle_first_life_is_replaced_at_once(both: Field) -> None:
    await both.register(incarnation="1", m="1:1", x="1:1")
    assert await both.register(incarnation="2", m="2:4")
    assert await _serving(both) == {b"w": b"2:4"}
    assert await _serving(both, "x") == {}
    assert not await both.redis.exists(keys.inbox(0, "w", "x"))


async def test_three_lives_at_once_end_with_one(both: Field) -> None:
    await both.register(incarnation="1")
    await both.given()
    assert not await both.register(incarnation="2")
    assert not await both.register(incarnation="3")
    await both.reclaim()
    assert await both.register(incarnation="3")
    assert await _heartbeat(both, "2") == "superseded"


async def test_registering_again_without_a_model_gives_its_jobs_back(both: Field) -> None:
    """Nobody would read that inbox any more, and no reclaim would look into it."""
    await both.register(m="4:8", x="4:8")
    read = await both.given()
    unread = await both.put()
    await both.assign()
    while not await both.register(x="4:8"):
        await both.reclaim()
    assert await _serving(both) == {}
    assert sorted(await both.lane("retry")) == sorted([read.request_id, unread])
    assert (await both.record(read.request_id)).attempts == 0  # no crash: it is alive
    assert await _serving(both, "x") == {b"w": b"4:8"}


async def test_registering_again_with_one_more_model_keeps_all(both: Field) -> None:
    await both.register(m="4:8")
    job = await both.given()
    assert await both.register(m="4:8", x="4:8")
    assert await both.complete(job.done()) == [1]
    assert await _serving(both, "x") == {b"w": b"4:8"}


@pytest.mark.parametrize("reclaimed", [True, False])
async def test_a_worker_lost_long_ago_is_forgotten_whole(both: Field, reclaimed: bool) -> None:
    await both.register()
    await both.end_lease()
    if reclaimed:
        await both.reclaim()
    assert await steps.forget(both.partition, retention_ms=HOUR_MS) == 1
    assert await _serving(both) == {}
    for key in (keys.worker(0, "w"), keys.workers(0), keys.inbox(0, "w", "m")):
        assert not await both.redis.exists(key), key


async def test_who_is_alive_or_holds_work_is_not_forgotten(both: Field) -> None:
    await both.register("alive")
    await both.register("holding")
    await both.given("holding")
    await both.end_lease("holding")
    assert await steps.forget(both.partition, retention_ms=0) == 0
    await both.reclaim("holding")
    assert await steps.forget(both.partition, retention_ms=0) == 1
    assert await _heartbeat(both, worker="alive") == "live"
