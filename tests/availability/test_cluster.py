"""A Redis Cluster: partitions lie on its nodes, and move when a node fails or an operator moves their slots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from harness.clusters import Clustered, Node, clustered, until
from harness.fleet import Producer, fleet, outcomes
from redis.crc import key_slot

from coordinator.core import keys
from coordinator.core.audit import audit
from coordinator.core.connection import Connections
from coordinator.core.records import SUCCEEDED, NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.waiting import Waiting

pytestmark = pytest.mark.end_to_end
PARTITIONS = 6
MODELS = tuple(f"model-{i}" for i in range(8))


def settings_for(url: str) -> Settings:
    return Settings(redis_url=url, partitions=PARTITIONS, lease_seconds=4.0, heartbeat_seconds=1.0, overdue_grace=1.0)


def slot_of(partition: int) -> int:
    return key_slot(keys.base(partition).encode())


async def all_succeeded(connections: Connections, request_ids: list[str]) -> bool:
    found = await outcomes(connections, request_ids)
    return all(result is not None and result.status == SUCCEEDED for result in found.values())


async def run_through(
    deployment: Clustered, durability: str | None, trouble: Callable[[], Awaitable[None]]
) -> Producer:
    """Submit all the time, make trouble, go on until jobs flow everywhere again, and see every accepted one succeed."""
    settings = settings_for(deployment.url)
    async with (
        await Connections.open(settings, client_name="test") as connections,
        fleet(settings, MODELS),
    ):
        producer = Producer(connections, settings, MODELS, durability)
        async with producer.running(len(MODELS)):
            await until(lambda: producer.has_accepted(200), "jobs are accepted before")
            await trouble()
            before = len(producer.accepted)
            await until(lambda: producer.has_accepted(before + 200), "jobs are accepted afterwards")
        await until(
            lambda: all_succeeded(connections, producer.accepted), "every accepted job has succeeded", seconds=40
        )
        assert not (await audit(connections, settings)).findings
    return producer


async def test_partitions_lie_on_different_nodes_and_all_work(tmp_path: Path) -> None:
    async with clustered(tmp_path) as deployment:
        settings = settings_for(deployment.url)
        assert len({await deployment.master_of(slot_of(p)) for p in range(PARTITIONS)}) == 3
        async with (
            await Connections.open(settings, client_name="test") as connections,
            fleet(settings, MODELS),
        ):
            waiting = Waiting(connections)
            task = asyncio.create_task(waiting.run())
            submitter = Submitter(connections, settings)
            receipts = [await submitter.submit(NewJob(model=model, input=b'"x"')) for model in MODELS]
            assert len({receipt.request_id.partition("-")[0] for receipt in receipts}) > 2
            results = [await waiting.result(receipt.request_id, wait=10) for receipt in receipts]
            assert [result.status for result in results] == [SUCCEEDED] * len(MODELS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_killed_node_costs_nothing_that_was_replicated(tmp_path: Path) -> None:
    async with clustered(tmp_path, replicas=1) as deployment:
        victim = await deployment.master_of(slot_of(0))

        async def kill() -> None:
            victim.kill()
            await until(lambda: taken_over(deployment, victim), "a replica takes over")
            # With its only other copy gone, nothing on these slots counts as replicated until the node is back.
            await victim.start()

        await run_through(deployment, "replicated", kill)


async def test_a_hanging_node_costs_nothing_that_was_replicated(tmp_path: Path) -> None:
    async with clustered(tmp_path, replicas=1) as deployment:
        victim = await deployment.master_of(slot_of(0))

        async def hang() -> None:
            victim.pause()
            await until(lambda: taken_over(deployment, victim), "a replica takes over")
            victim.resume()

        await run_through(deployment, "replicated", hang)


async def taken_over(deployment: Clustered, old: Node) -> bool:
    others = Clustered([node for node in deployment.nodes if node is not old], deployment.masters)
    return await others.master_of(slot_of(0)) is not old


async def test_a_slot_that_is_moved_is_followed_and_nothing_is_lost(tmp_path: Path) -> None:
    async with clustered(tmp_path) as deployment:
        slot = slot_of(0)
        source = await deployment.master_of(slot)
        target = next(node for node in deployment.nodes if node is not source)

        async def move() -> None:
            source_id, target_id = [(await node.ask("CLUSTER", "MYID")).decode() for node in (source, target)]
            await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
            await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
            while found := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
                names = [key.decode() for key in found]
                await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
            for node in (target, source, *deployment.nodes):
                await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
            assert await deployment.master_of(slot) is target

        producer = await run_through(deployment, None, move)
        on_slot = [i for i in producer.accepted if i.startswith("0-")]
        assert on_slot


async def test_a_node_that_hangs_does_not_delay_the_lookup(tmp_path: Path) -> None:
    async with clustered(tmp_path, replicas=1) as deployment:
        await until(lambda: more_than_one(deployment), "the cluster is up")
        for node in deployment.nodes[3:]:
            node.pause()
        async with await Connections.open(settings_for(deployment.url), client_name="test") as connections:
            for partition in connections.partitions:
                assert await partition.patiently(partition.redis.ping)


async def more_than_one(deployment: Clustered) -> bool:
    return len({await deployment.master_of(slot_of(p)) for p in range(PARTITIONS)}) > 1
