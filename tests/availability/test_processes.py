"""The whole system as real processes, on Redis as production runs it: a failover, and everything goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.clusters import Node, clustered, replicated, until
from harness.system import System, joined
from redis.crc import key_slot

from coordinator.client import AsyncClient
from coordinator.core import keys

pytestmark = pytest.mark.end_to_end
_TASKS = 4


class Load:
    """Jobs handed in over HTTP, one after another, each waited for."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._next = 0
        self.done: list[int] = []
        self.stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(_TASKS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while not self.stopping:
            self._next += 1
            number = self._next
            request_id = await self._client.submit("play", {"n": number}, durability="replicated")
            result = await self._client.wait(request_id, timeout=60.0)
            assert result.status == "succeeded", result
            self.done.append(number)

    async def reaches(self, count: int) -> bool:
        return len(self.done) >= count


async def live_through(system: System, client: AsyncClient, victim: Node, *, hang: bool) -> None:
    """Run jobs, break the master that holds them, and run jobs again: no process is touched, none ends."""
    await joined(client, "w1", "w2")
    load = Load(client)
    running = asyncio.create_task(load.run())
    try:
        await until(lambda: load.reaches(50), "jobs are done before the fault", seconds=30)
        if hang:
            victim.pause()
        else:
            victim.kill()
        before = len(load.done)
        await until(lambda: load.reaches(before + 100), "jobs are done after the fault", seconds=45)
        load.stopping = True
        async with asyncio.timeout(60):
            await running
        assert all(daemon.alive for daemon in system.daemons.values())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("hang", [False, True], ids=["killed", "hanging"])
async def test_the_whole_system_outlives_its_master_behind_sentinels(tmp_path: Path, hang: bool) -> None:
    async with replicated(tmp_path / "redis", replicas=2) as deployment:
        with System(tmp_path / "system", deployment.url) as system:
            api = system.api()
            await api.ready()
            system.dispatcher()
            for name in ("w1", "w2"):
                system.worker(name, api.url)
            async with api.client(timeout=65.0) as client:
                await live_through(system, client, await deployment.master(), hang=hang)


async def test_the_whole_system_outlives_a_node_of_its_cluster(tmp_path: Path) -> None:
    async with clustered(tmp_path / "redis", replicas=2) as deployment:
        with System(tmp_path / "system", deployment.url, partitions=3) as system:
            api = system.api()
            await api.ready()
            system.dispatcher()
            for name in ("w1", "w2"):
                system.worker(name, api.url)
            slot = key_slot(keys.base(keys.partition_of("play", 3)).encode())
            async with api.client(timeout=65.0) as client:
                await live_through(system, client, await deployment.master_of(slot), hang=False)
