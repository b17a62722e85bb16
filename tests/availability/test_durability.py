"""What must have confirmed a job before it counts as accepted: memory, a replica, the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.clusters import replicated, server_version, standalone, until

from coordinator.core import membership
from coordinator.core.connection import Connections
from coordinator.core.errors import InvalidInput, NotDurable, UnknownModel
from coordinator.core.records import ModelOffer, NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.views import models

pytestmark = pytest.mark.end_to_end
needs_waitaof = pytest.mark.skipif(server_version() < (7, 2), reason="WAITAOF came with Redis 7.2")


def settings_for(url: str, durability: str) -> Settings:
    wait = 3.0 if durability == "fsync" else 1.0
    return Settings(redis_url=url, durability=durability, durability_wait=wait)


def job(key: str) -> NewJob:
    return NewJob(model="wine", input=b"1", idempotency_key=key)


async def know_the_model(connections: Connections, settings: Settings) -> None:
    await membership.register(
        connections, settings, worker_id="w", models={"wine": ModelOffer(capacity=1)}, metadata={}
    )


async def backlog(connections: Connections, settings: Settings) -> int:
    return sum((await models(connections, settings))["wine"].backlog.values())


async def test_replicated_means_that_a_replica_has_it(tmp_path: Path) -> None:
    async with replicated(tmp_path) as deployment:
        settings = settings_for(deployment.url, "replicated")
        async with await Connections.open(settings, client_name="test") as connections:
            await know_the_model(connections, settings)
            receipt = await Submitter(connections, settings).submit(job("a"))
            assert receipt.outcome == "accepted"
            bucket = f"coord:{{0}}:results:{receipt.request_id.split('-')[1]}"
            assert await deployment.nodes[1].ask("HGET", bucket, receipt.request_id)


async def test_without_a_replica_nothing_is_replicated_and_a_resend_makes_no_second_job(tmp_path: Path) -> None:
    async with replicated(tmp_path) as deployment:
        settings = settings_for(deployment.url, "replicated")
        async with await Connections.open(settings, client_name="test") as connections:
            await know_the_model(connections, settings)
            submitter = Submitter(connections, settings)
            deployment.nodes[1].pause()
            with pytest.raises(NotDurable):
                await submitter.submit(job("a"))
            # The resend writes nothing, and is not confirmed either: what it asks for is not on the replica.
            with pytest.raises(NotDurable):
                await submitter.submit(job("a"))
            # Nor on a connection that has written nothing at all.
            async with await Connections.open(settings, client_name="another") as others:
                with pytest.raises(NotDurable):
                    await Submitter(others, settings).submit(job("a"))
            deployment.nodes[1].resume()
            await until(lambda: confirmed(submitter, job("a")), "the replica follows again")
            assert await backlog(connections, settings) == 1


async def confirmed(submitter: Submitter, wanted: NewJob) -> bool:
    try:
        return (await submitter.submit(wanted)).outcome == "duplicate"
    except NotDurable:
        return False


async def test_a_job_may_ask_for_more_than_the_deployment_does(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        settings = settings_for(f"redis://{node.address}", "memory")
        async with await Connections.open(settings, client_name="test") as connections:
            await know_the_model(connections, settings)
            submitter = Submitter(connections, settings)
            assert (await submitter.submit(job("a"))).outcome == "accepted"
            demanding = NewJob(model="wine", input=b"1", durability="replicated")
            with pytest.raises(NotDurable):
                await submitter.submit(demanding)


async def test_what_is_refused_anyway_says_why_and_not_that_it_was_not_confirmed(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        settings = Settings(redis_url=f"redis://{node.address}", durability="replicated", durability_wait=0.1)
        async with await Connections.open(settings, client_name="test") as connections:
            with pytest.raises(UnknownModel):
                await Submitter(connections, settings).submit(job("a"))


@needs_waitaof
async def test_fsync_means_that_it_is_on_disk(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "") as node:
        settings = settings_for(f"redis://{node.address}", "fsync")
        async with await Connections.open(settings, client_name="test") as connections:
            await know_the_model(connections, settings)
            submitter = Submitter(connections, settings)
            for i in range(5):
                assert (await submitter.submit(job(f"key-{i}"))).outcome == "accepted"
            node.kill()
            await node.start()
            assert await backlog(connections, settings) == 5


@needs_waitaof
async def test_fsync_is_refused_where_nothing_is_written_to_disk(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        await fsync_is_refused(node.address)


@pytest.mark.skipif(server_version() >= (7, 2), reason="this server has WAITAOF")
async def test_fsync_is_refused_by_a_server_that_cannot_tell(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--save", "") as node:
        await fsync_is_refused(node.address)


async def fsync_is_refused(address: str) -> None:
    settings = settings_for(f"redis://{address}", "fsync")
    async with await Connections.open(settings, client_name="test") as connections:
        await know_the_model(connections, settings)
        with pytest.raises(InvalidInput, match=r"fsync.*needs Redis 7\.2"):
            await Submitter(connections, settings).submit(job("a"))
        assert await backlog(connections, settings) == 0
