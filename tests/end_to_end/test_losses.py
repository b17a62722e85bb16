"""What becomes of jobs when a process dies, hangs, is told to stop, or comes back too late."""

from __future__ import annotations

import asyncio
import time

import pytest
from harness.redis import RedisServer
from harness.system import SECONDS, ApiDaemon, System, joined, members, until

from coordinator.client import AsyncClient
from coordinator.core import keys

pytestmark = pytest.mark.end_to_end


async def _running(system: System, client: AsyncClient, count: int, seconds: float, model: str = "aplay") -> list[str]:
    """Jobs that run, at either worker."""
    ids = [await client.submit(model, {"seconds": seconds}) for _ in range(count)]
    await until(lambda: all(system.starts(request_id) for request_id in ids), "all run")
    return ids


async def test_jobs_of_a_killed_worker_run_elsewhere(client: AsyncClient, system: System) -> None:
    ids = await _running(system, client, 6, 2.0)
    victim = system.starts(ids[0])[0].worker
    system.daemons[victim].kill()
    results = [await client.wait(request_id, timeout=SECONDS) for request_id in ids]
    assert {result.status for result in results} == {"succeeded"}
    lost = [run.id for run in system.executions() if run.event == "start" and run.worker == victim and run.id in ids]
    assert lost
    assert {result.request_id for result in results if result.attempts == 2} == set(lost)
    system.daemons[victim].start()
    await joined(client, victim)


async def test_a_worker_started_again_under_its_id_need_not_wait_for_its_old_lease(
    client: AsyncClient, system: System
) -> None:
    ids = await _running(system, client, 4, 1.0)
    system.daemons["w2"].kill()
    system.daemons["w2"].start()
    for request_id in ids:
        result = await client.wait(request_id, timeout=SECONDS)
        assert (result.status, result.attempts) == ("succeeded", len(system.starts(request_id)))


async def test_a_stopping_worker_finishes_what_runs_and_hands_the_rest_back(
    client: AsyncClient, system: System
) -> None:
    ids = [await client.submit("aplay", {"seconds": 1.0}) for _ in range(16)]
    await until(lambda: len([run for run in ids if system.starts(run)]) >= 8, "both are busy")
    assert await system.daemons["w1"].stop() == 0
    assert "w1" not in await members(client)
    for request_id in ids:
        result = await client.wait(request_id, timeout=SECONDS)
        # Nothing was run twice, and what was handed back has lost no attempt.
        assert (result.status, result.attempts) == ("succeeded", 1)
        assert len(system.starts(request_id)) == 1
    system.daemons["w1"].start()


async def test_a_worker_that_was_stopped_past_its_lease_can_not_hurt(client: AsyncClient, system: System) -> None:
    ids = await _running(system, client, 6, 2.0, "play")
    paused = system.daemons[system.starts(ids[0])[0].worker]
    refused = paused.said("stale") + paused.said("taken away")
    paused.pause()
    results = {request_id: await client.wait(request_id, timeout=SECONDS) for request_id in ids}
    assert {result.status for result in results.values()} == {"succeeded"}
    paused.resume()
    await until(lambda: paused.said("stale") + paused.said("taken away") > refused, "it notices")
    await joined(client, paused.name)
    for request_id, result in results.items():
        assert await client.result(request_id) == result


async def test_a_poison_job_becomes_a_dead_letter_and_the_others_are_not_blamed(
    client: AsyncClient, system: System
) -> None:
    stop = asyncio.Event()

    async def orchestrate() -> None:
        while not stop.is_set():
            for name in ("w1", "w2"):
                if not system.daemons[name].alive:
                    system.daemons[name].start()
            await asyncio.sleep(0.05)

    orchestrating = asyncio.create_task(orchestrate())
    ids = [await client.submit("aplay", {"seconds": 0.3}) for _ in range(10)]
    poison = await client.submit("play", {"crash": 99})
    ids += [await client.submit("play", {"seconds": 0.1}) for _ in range(10)]
    result = await client.wait(poison, timeout=SECONDS)
    assert (result.status, result.attempts) == ("failed", 3)
    assert result.error is not None
    assert result.error.type == "poison"
    assert result.crashed_workers == [run.worker for run in system.starts(poison)]
    for request_id in ids:
        other = await client.wait(request_id, timeout=SECONDS)
        # The first crash may be anybody's fault; after it, the suspects run alone, and it turns out whose it was.
        assert other.status == "succeeded"
        assert other.attempts <= 2
    stop.set()
    await orchestrating


async def test_work_does_not_wait_for_a_slow_worker_while_a_fast_one_is_free(
    client: AsyncClient, system: System
) -> None:
    api = system.daemons["api"]
    assert isinstance(api, ApiDaemon)
    for name, seconds in (("slow", 5.0), ("fast", 0.0)):
        system.worker(name, api.url, plays={"prefix": "uneven/", "seconds": seconds, "capacity": 1})
    await joined(client, "slow", "fast")
    ids = [await client.submit("uneven/play", {"seconds": 0.01}) for _ in range(40)]
    for request_id in ids:
        assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    done = [run.worker for run in system.executions() if run.event == "start" and run.id in ids]
    assert len(done) == 40
    assert done.count("slow") <= 2
    for name in ("slow", "fast"):
        await system.daemons[name].stop()


async def test_two_dispatchers_share_the_work_and_either_can_go(client: AsyncClient, system: System) -> None:
    second = system.dispatcher("second")
    await until(lambda: second.said("dispatching"), "it runs")
    outputs = [r.value() async for r in client.map("aplay", [{"n": n} for n in range(50)])]
    system.daemons["dispatcher"].kill()
    outputs += [r.value() async for r in client.map("aplay", [{"n": n} for n in range(50, 100)])]
    assert [output["n"] for output in outputs] == list(range(100))
    runs = [run.id for run in system.executions() if run.event == "start" and run.attempt == 1]
    assert len(runs) == len(set(runs))
    system.daemons["dispatcher"].start()
    assert await second.stop() == 0


async def test_a_killed_api_loses_nothing_that_it_had_accepted(client: AsyncClient, system: System) -> None:
    api = system.daemons["api"]
    ids = [await client.submit("aplay", {"n": n, "seconds": 0.2}) for n in range(30)]
    waiting = asyncio.gather(*(client.wait(request_id, timeout=SECONDS) for request_id in ids))
    api.kill()
    api.start()
    assert [result.value()["n"] for result in await waiting] == list(range(30))


async def test_redis_killed_and_started_again_on_its_file(
    client: AsyncClient, system: System, server: RedisServer
) -> None:
    with server.client() as redis:
        redis.config_set("appendfsync", "always")
    ids = [await client.submit("aplay", {"n": n, "seconds": 0.5}) for n in range(30)]
    server.kill()
    await asyncio.to_thread(server.start)
    assert [(await client.wait(i, timeout=SECONDS)).value()["n"] for i in ids] == list(range(30))
    assert await client.wait(await client.submit("play", {}), timeout=SECONDS)


async def test_redis_that_lost_everything_gets_its_workers_back(
    client: AsyncClient, system: System, server: RedisServer
) -> None:
    """The jobs are gone with it; but nobody has to restart anything."""
    with server.client() as redis:
        redis.flushall()
    # Until a worker has registered again, its models are unknown.
    await until(lambda: _knows(client), "the workers are back")
    await joined(client, "w1", "w2")
    outputs = [result.value()["n"] async for result in client.map("aplay", [{"n": n} for n in range(20)])]
    assert outputs == list(range(20))


async def _knows(client: AsyncClient) -> bool:
    return bool((await client.wait(await client.submit("play", {}), timeout=SECONDS)).final)


async def test_in_the_end_nothing_is_left(client: AsyncClient, system: System, server: RedisServer) -> None:
    """After all the above: no entry in any stream, no input, nobody who is told anything."""
    before = time.monotonic()
    await client.wait(await client.submit("play", {}), timeout=SECONDS)
    with server.client() as redis:
        while time.monotonic() < before + SECONDS:
            left = {
                key.decode(): redis.xlen(key)
                for key in redis.scan_iter(match="coord:*", _type="stream")
                if redis.xlen(key) and key.decode() != keys.dead(0)
            }
            if not left and not redis.hlen(keys.waiters(0)) and not redis.zcard(keys.delayed(0)):
                break
            await asyncio.sleep(0.05)
        assert left == {}
        assert redis.hkeys(keys.waiters(0)) == []
        assert list(redis.scan_iter(match="coord:*:blob:*:in")) == []
