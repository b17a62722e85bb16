"""Redis goes away while a worker runs: what it has finished is told later, and nothing runs twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from harness.redis import RedisServer
from harness.stage import DirectRegistrar, Stage, until

from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.core.duty import stop
from coordinator.core.errors import RedisUnavailable
from coordinator.core.results import Result
from coordinator.core.settings import Settings
from coordinator.dispatcher.main import dispatch
from coordinator.worker import Worker, job
from coordinator.worker.runtime import check_same_redis


@pytest.fixture
async def stage(own_redis: RedisServer) -> AsyncIterator[Stage]:
    """As the other tests', on a Redis that may be killed."""
    settings = Settings(
        redis_url=own_redis.url(), lease_seconds=2.0, heartbeat_seconds=0.2, redis_patience=0.5, backoff_base=0.01
    )
    async with await Connections.open(settings, client_name="tests") as connections:
        stage = Stage(connections, settings)
        tasks = [asyncio.create_task(stage.waiting.run()), asyncio.create_task(dispatch(settings))]
        yield stage
        await stop(tasks)
        await stage.field.census()


async def _result(stage: Stage, request_id: str) -> Result:
    """The result, however long Redis may be away."""
    while True:
        try:
            return await stage.result(request_id)
        except RedisUnavailable:
            await asyncio.sleep(0.01)


async def test_redis_may_go_away_while_a_worker_starts(own_redis: RedisServer) -> None:
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.1)
    async with await Connections.open(settings, client_name="tests") as connections:
        registrar = DirectRegistrar(connections, settings)
        worker = Worker()
        worker.model("m")(str)
        registered = await registrar.register(worker.handlers, {}, worker_id="w", incarnation="1")
        own_redis.pause()
        checking = asyncio.create_task(check_same_redis(registered, connections))
        for _ in range(3):
            with pytest.raises(RedisUnavailable):
                await connections.partitions[0].patiently(connections.partitions[0].redis.ping)
        assert not checking.done()
        own_redis.resume()
        await checking


async def test_what_was_finished_meanwhile_is_told_when_redis_is_back(stage: Stage, own_redis: RedisServer) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []

    @worker.model("m", capacity=4)
    def handler(value: int) -> int:
        runs.append(value)
        if len(runs) == 3:
            started.set()
        release.wait(10)
        return job.attempt

    async with stage.running(worker, worker_id="w") as runtime:
        ids = await stage.submit_many("m", [1, 2, 3])
        await until(started.is_set)
        own_redis.kill()
        release.set()
        (service,) = runtime.services
        await until(lambda: service.busy == 3 and service.in_work == 0)
        own_redis.start()
        results = [await _result(stage, request_id) for request_id in ids]
        assert [result.status for result in results] == ["succeeded"] * 3
        assert [result.attempts for result in results] == [1] * 3
        assert sorted(runs) == [1, 2, 3]
        # It reads again, too.
        assert (await _result(stage, await stage.submit("m", 4))).status == "succeeded"


async def test_a_worker_that_is_stopped_while_redis_is_away_ends_within_its_grace(
    stage: Stage, own_redis: RedisServer
) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> int:
        return value

    async with stage.running(worker, worker_id="w", grace=0.2) as runtime:
        own_redis.kill()
        runtime.stop()
    own_redis.start()


async def test_connections_that_are_cut_cost_nothing(stage: Stage) -> None:
    worker = Worker()
    runs: list[int] = []

    @worker.model("m", capacity=8)
    async def handler(value: int) -> int:
        runs.append(value)
        return value

    async with stage.running(worker, worker_id="w"):
        redis = stage.field.redis
        ids: list[str] = []
        for i in range(20):
            ids += [await stage.submit("m", i * 10 + j) for j in range(10)]
            for client in await redis.client_list(_type="normal"):
                if client["name"].startswith("worker-w"):
                    await redis.client_kill_filter(_id=client["id"])
        assert [(await _result(stage, request_id)).status for request_id in ids] == ["succeeded"] * 200
        assert sorted(runs) == list(range(200))
        assert await redis.xlen(keys.inbox(0, "w", "m")) == 0
