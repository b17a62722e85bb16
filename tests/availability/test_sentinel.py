"""A master behind sentinels: everything works by that URL, and a failover is lived through without losing what was promised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.clusters import Node, Replicated, replicated, until
from harness.fleet import Producer, fleet, outcomes

from coordinator.core.audit import audit
from coordinator.core.connection import Connections
from coordinator.core.records import SUCCEEDED, NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.waiting import Waiting

pytestmark = pytest.mark.end_to_end
MODELS = ("digits", "wine")


def settings_for(url: str, **changes: object) -> Settings:
    return Settings.model_validate(
        {"redis_url": url, "lease_seconds": 4.0, "heartbeat_seconds": 1.0, "overdue_grace": 1.0, **changes}
    )


async def all_succeeded(connections: Connections, request_ids: list[str]) -> bool:
    found = await outcomes(connections, request_ids)
    return all(result is not None and result.status == SUCCEEDED for result in found.values())


async def run_through(
    deployment: Replicated, durability: str | None, fault: Callable[[Node], Awaitable[None]]
) -> Producer:
    """Submit all the time, break the master, go on until jobs flow again, and finish."""
    settings = settings_for(deployment.url, partitions=2)
    async with (
        await Connections.open(settings, client_name="test") as connections,
        fleet(settings, MODELS),
    ):
        producer = Producer(connections, settings, MODELS, durability)
        async with producer.running():
            await until(lambda: producer.has_accepted(200), "jobs are accepted before the fault")
            old = await deployment.master()
            await fault(old)
            await until(lambda: _another(deployment, old), "another master is elected")
            before = len(producer.accepted)
            await until(lambda: producer.has_accepted(before + 200), "jobs are accepted after the failover")
        if durability == "replicated":
            # Leases are over, jobs are run again: give the system the time that its own time-outs say.
            await until(
                lambda: all_succeeded(connections, producer.accepted), "every accepted job has succeeded", seconds=30
            )
        else:
            await until(lambda: all_succeeded(connections, producer.accepted[before:]), "new jobs succeed", seconds=30)
        # A replica has all that its master had done up to some moment, steps whole: what is lost leaves nothing behind.
        assert not (await audit(connections, settings)).findings
    return producer


async def _another(deployment: Replicated, old: Node) -> bool:
    return await deployment.master() is not old


async def kill(node: Node) -> None:
    node.kill()


async def test_jobs_run_through_sentinels(tmp_path: Path) -> None:
    async with replicated(tmp_path) as deployment:
        settings = settings_for(deployment.url)
        async with (
            await Connections.open(settings, client_name="test") as connections,
            fleet(settings, MODELS),
        ):
            waiting = Waiting(connections)
            task = asyncio.create_task(waiting.run())
            submitter = Submitter(connections, settings)
            receipts = [await submitter.submit(NewJob(model=MODELS[i % 2], input=b"%d" % i)) for i in range(20)]
            results = [await waiting.result(receipt.request_id, wait=10) for receipt in receipts]
            assert [result.status for result in results] == [SUCCEEDED] * 20
            assert [bytes(result.output) for result in results] == [b"%d" % i for i in range(20)]  # type: ignore[arg-type]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_killed_master_costs_nothing_that_was_replicated(tmp_path: Path) -> None:
    async with replicated(tmp_path, replicas=2) as deployment:
        await run_through(deployment, "replicated", kill)


async def test_a_hanging_master_costs_nothing_that_was_replicated(tmp_path: Path) -> None:
    async def hang(node: Node) -> None:
        node.pause()

    async with replicated(tmp_path, replicas=2) as deployment:
        await run_through(deployment, "replicated", hang)


async def test_a_master_that_comes_back_does_no_harm(tmp_path: Path) -> None:
    """It was paused and goes on where it stopped, as a master, until a sentinel tells it."""
    async with replicated(tmp_path, replicas=2) as deployment:

        async def hang_and_come_back(node: Node) -> None:
            node.pause()
            await until(lambda: _another(deployment, node), "another master is elected")
            node.resume()

        await run_through(deployment, "replicated", hang_and_come_back)


async def test_with_memory_only_the_system_still_recovers(tmp_path: Path) -> None:
    async with replicated(tmp_path, replicas=1) as deployment:
        await run_through(deployment, None, kill)


async def test_a_sentinel_that_hangs_does_not_delay(tmp_path: Path) -> None:
    async with replicated(tmp_path) as deployment:
        deployment.sentinels[0].pause()
        settings = settings_for(deployment.url)
        async with await Connections.open(settings, client_name="test") as connections:
            assert await connections.partitions[0].redis.ping()
