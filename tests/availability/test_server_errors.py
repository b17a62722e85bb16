"""What a server says when it can't, or not now: sent again, or turned into an error that names it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from harness.clusters import Node, standalone, until

from coordinator.core import membership, steps
from coordinator.core.connection import Connections
from coordinator.core.errors import MemoryPressure, Misconfigured, RedisUnavailable
from coordinator.core.records import ModelOffer, NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter

pytestmark = pytest.mark.end_to_end


def settings_for(node: Node) -> Settings:
    return Settings(redis_url=f"redis://{node.address}", redis_patience=1.0)


async def open_with_a_model(node: Node) -> tuple[Connections, Submitter]:
    settings = settings_for(node)
    connections = await Connections.open(settings, client_name="test")
    await membership.register(
        connections, settings, worker_id="w", models={"wine": ModelOffer(capacity=1)}, metadata={}
    )
    return connections, Submitter(connections, settings)


JOB = NewJob(model="wine", input=b"1")


async def test_scripts_that_the_server_forgot_are_sent_again(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            await submitter.submit(JOB)
            await node.ask("SCRIPT", "FLUSH")
            assert (await submitter.submit(JOB)).outcome == "accepted"


@pytest.mark.parametrize("stale", ["yes", "no"])
async def test_a_server_that_became_a_replica_is_unavailable_until_it_is_a_master_again(
    tmp_path: Path, stale: str
) -> None:
    """It says READONLY, or MASTERDOWN if it is not to serve stale data."""
    async with standalone(tmp_path) as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            await node.ask("CONFIG", "SET", "replica-serve-stale-data", stale)
            await node.ask("REPLICAOF", "127.0.0.1", 1)
            with pytest.raises(RedisUnavailable):
                await submitter.submit(JOB)
            waiting = asyncio.create_task(submitter.submit(JOB))
            await node.ask("REPLICAOF", "NO", "ONE")
            assert (await waiting).outcome == "accepted"


async def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--save", "", "--key-load-delay", "300") as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            first = await submitter.submit(JOB)
            async with node.redis.pipeline(transaction=False) as pipe:
                for i in range(4000):  # about a second to load
                    pipe.set(f"other:{i}", "")
                await pipe.execute()
            node.kill()
            started = asyncio.create_task(node.start())
            await until(lambda: found(connections, first.request_id), "it is loaded and answers")
            await started


async def found(connections: Connections, request_id: str) -> bool:
    try:
        return (await steps.read(connections.partitions[0], [request_id]))[0] is not None
    except RedisUnavailable:
        return False


async def test_a_server_out_of_memory_refuses_new_jobs_and_says_so(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            await node.ask("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(MemoryPressure):
                await submitter.submit(JOB)
            await node.ask("CONFIG", "SET", "maxmemory", "0")
            assert (await submitter.submit(JOB)).outcome == "accepted"


async def test_a_server_that_wants_replicas_before_it_writes_is_unavailable(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            await node.ask("CONFIG", "SET", "min-replicas-to-write", "1")
            with pytest.raises(RedisUnavailable):
                await submitter.submit(JOB)


async def test_a_cluster_without_slots_is_unavailable(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--cluster-enabled", "yes", "--save", "") as node:
        settings = Settings(redis_url=f"redis+cluster://{node.address}", redis_patience=0.5)
        with pytest.raises(RedisUnavailable):
            await Connections.open(settings, client_name="test")
        # The same without the client knowing that it is a cluster: CLUSTERDOWN.
        with pytest.raises(RedisUnavailable):
            await Connections.open(
                Settings(redis_url=f"redis://{node.address}", redis_patience=0.5), client_name="test"
            )


async def test_a_wrong_password_is_not_tried_again(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        await node.ask("CONFIG", "SET", "requirepass", "right")
        with pytest.raises(Misconfigured):
            await Connections.open(settings_for(node), client_name="test")
        wrong = Settings(redis_url=f"redis://:wrong@{node.address}")
        with pytest.raises(Misconfigured):
            await Connections.open(wrong, client_name="test")
        right = Settings(redis_url=f"redis://:right@{node.address}")
        async with await Connections.open(right, client_name="test"):
            pass


async def test_a_server_that_hangs_is_unavailable_within_the_patience_and_then_back(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        connections, submitter = await open_with_a_model(node)
        async with connections:
            node.pause()
            with pytest.raises(RedisUnavailable):
                await submitter.submit(JOB)
            node.resume()
            assert (await submitter.submit(JOB)).outcome == "accepted"
