"""The doctor: each check says ok, warning or problem of a Redis that is just so."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.clusters import Node, clustered, replicated, server_version, standalone, until

from coordinator.core import keys
from coordinator.core.audit import audit
from coordinator.core.connection import Connections
from coordinator.core.doctor import Diagnosis, examine
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings

pytestmark = pytest.mark.end_to_end


def verdicts(diagnosis: Diagnosis) -> dict[str, str]:
    return {check.name: check.verdict for check in diagnosis.checks}


async def verdict_of(name: str, url: str, **settings: object) -> str:
    diagnosis = await examine(Settings.model_validate({"redis_url": url, **settings}))
    for check in diagnosis.checks:
        if check.verdict != "ok":
            assert check.advice, f"{check.name} does not say what to do"
    return verdicts(diagnosis)[name]


async def test_a_redis_as_it_should_be_is_all_right(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--save", "", "--maxmemory", "200mb") as node:
        settings = Settings(redis_url=f"redis://{node.address}")
        async with await Connections.open(settings, client_name="test") as connections:
            await connections.partitions[0].redis.hset(keys.audit(0), "finished_at", 1)
        diagnosis = await examine(settings)
        bad = [check for check in diagnosis.checks if check.verdict != "ok" and check.name != "latency"]
        assert bad == []
        looked_at = {
            "hiredis",
            "schema",
            "latency",
            "clock",
            "version",
            "role",
            "persistence",
            "eviction policy",
            "memory",
        }
        assert looked_at < set(verdicts(diagnosis))


async def test_a_redis_that_nobody_used_is_not_claimed_by_a_look(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        assert await verdict_of("schema", f"redis://{node.address}") == "warning"
        assert not await node.ask("EXISTS", keys.META)


async def test_a_redis_that_is_away_is_a_problem(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        node.pause()
        assert await verdict_of("reachable", f"redis://{node.address}", redis_patience=0.3) == "problem"
        node.resume()
        await node.ask("CONFIG", "SET", "requirepass", "right")
        assert await verdict_of("reachable", f"redis://:wrong@{node.address}") == "problem"


async def test_an_address_that_cannot_be_read_is_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        await examine(Settings(redis_url="redis+sentinel://host"))


async def test_what_a_server_must_not_be(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        url = f"redis://{node.address}"
        assert await verdict_of("persistence", url) == "warning"
        assert await verdict_of("persistence", url, durability="fsync") == "problem"
        assert await verdict_of("replicas", url) == "ok"
        assert await verdict_of("replicas", url, durability="replicated") == "problem"
        assert await verdict_of("memory", url) == "warning"
        assert await verdict_of("eviction policy", url) == "ok"
        await node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert await verdict_of("eviction policy", url) == "problem"
        await node.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await node.ask("CONFIG", "SET", "maxmemory", "1000")
        assert await verdict_of("memory", url) == "problem"
        await node.ask("CONFIG", "SET", "maxmemory", "0")
        await node.ask("HSET", keys.META, "schema", "999", "partitions", "1")
        assert await verdict_of("schema", url) == "problem"
        await node.ask("HSET", keys.META, "schema", keys.SCHEMA_VERSION, "partitions", "7")
        assert await verdict_of("schema", url) == "problem"
        assert await verdict_of("schema", url, partitions=7) == "ok"


async def test_fsync_needs_a_server_that_can_tell(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--save", "") as node:
        wanted = "ok" if server_version() >= (7, 2) else "problem"
        assert await verdict_of("durability", f"redis://{node.address}", durability="fsync") == wanted
        await node.ask("CONFIG", "SET", "appendfsync", "no")
        assert await verdict_of("persistence", f"redis://{node.address}") == "warning"


async def test_config_may_be_forbidden(tmp_path: Path) -> None:
    async with standalone(tmp_path, "--appendonly", "yes", "--save", "") as node:
        await node.ask("ACL", "SETUSER", "guest", "on", ">pw", "~*", "&*", "+@all", "-config")
        assert await verdict_of("persistence", f"redis://guest:pw@{node.address}") == "ok"


async def test_what_the_auditor_found_is_told(tmp_path: Path) -> None:
    async with standalone(tmp_path) as node:
        url = f"redis://{node.address}"
        assert await verdict_of("last audit", url) == "warning"
        await node.ask("HSET", keys.audit(0), "finished_at", "1", "orphan_blob", "2")
        assert await verdict_of("last audit", url) == "problem"


async def test_sentinels_and_a_master_that_could_be_cut_off(tmp_path: Path) -> None:
    async with replicated(tmp_path) as deployment:
        assert await verdict_of("replicas", deployment.url) == "ok"
        assert await verdict_of("split brain", deployment.url) == "warning"
        await deployment.nodes[0].ask("CONFIG", "SET", "min-replicas-to-write", "1")
        assert "split brain" not in verdicts(await examine(Settings(redis_url=deployment.url)))
        assert await verdict_of("role", f"redis://{deployment.nodes[1].address}") == "problem"
        deployment.nodes[1].kill()
        await until(lambda: has_no_replica(deployment.nodes[0]), "the master has seen it")
        assert await verdict_of("replicas", deployment.url) == "warning"


async def has_no_replica(node: Node) -> bool:
    return bool((await node.redis.info("replication"))["connected_slaves"] == 0)


async def test_a_cluster(tmp_path: Path) -> None:
    async with clustered(tmp_path, arguments=("--cluster-require-full-coverage", "no")) as deployment:
        settings = Settings(redis_url=deployment.url, partitions=6)
        async with await Connections.open(settings, client_name="test") as connections:
            assert not (await audit(connections, settings)).findings
        found = verdicts(await examine(settings))
        assert found["cluster slots"] == "ok"
        assert found["cluster replicas"] == "warning"
        assert found["cluster partitions"] == "ok"
        assert await verdict_of("cluster partitions", deployment.url, partitions=2) == "warning"
        servers = {check.server for check in (await examine(settings)).checks if check.name == "version"}
        assert len(servers) == 3
        assert await verdict_of("reachable", f"redis://{deployment.nodes[0].address}", redis_patience=0.2) == "problem"
        for node in deployment.nodes:
            await node.ask("CLUSTER", "DELSLOTS", 1)
        assert await verdict_of("cluster slots", deployment.url, partitions=6) == "problem"
