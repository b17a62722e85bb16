"""Who holds a key right now: what sentinels and cluster nodes say when they do not agree, hang, or are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from coordinator.core.topology import Cluster, Sentinels

Answer = Callable[[list[bytes]], bytes]


class Informant:
    """A server that knows one thing, and counts how often it was asked for it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked = 0


@contextlib.asynccontextmanager
async def informant(command: bytes, answer: bytes | Answer | None) -> AsyncIterator[Informant]:
    """Answers OK to all but `command`; with an `answer` of None it hangs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while header := await reader.readline():
                words = []
                for _ in range(int(header[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                if words[0] != command:
                    writer.write(b"+OK\r\n")
                    continue
                it.asked += 1
                if answer is not None:
                    writer.write(answer(words) if callable(answer) else answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    it = Informant(server.sockets[0].getsockname()[1])
    try:
        yield it
    finally:
        server.close()


def bulk(*words: str | int) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(str(w)), str(w).encode()) for w in words)


def master(port: int, epoch: int, *, replaced: int | None = None) -> Answer:
    """What a sentinel says of the master: its state, in which it names the one that is being `replaced`; and who it is."""
    state = bulk(
        "name", "mymaster", "ip", "127.0.0.1", "port", replaced or port, "flags", "master", "config-epoch", epoch
    )
    return lambda words: state if words[1] == b"MASTER" else bulk("127.0.0.1", port)


def slots(port: int) -> bytes:
    """What a cluster node says whose whole cluster is one master."""
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port


async def test_the_sentinel_that_knows_of_the_latest_failover_is_believed() -> None:
    async with (
        informant(b"SENTINEL", master(1, 7)) as stale,
        informant(b"SENTINEL", master(2, 8)) as fresh,
        informant(b"SENTINEL", b"-ERR No such master with that name\r\n") as foreign,
        informant(b"SENTINEL", None) as hanging,
    ):
        hosts = [("127.0.0.1", one.port) for one in (hanging, stale, foreign, fresh)]
        assert await Sentinels([*hosts, ("127.0.0.1", 1)], "mymaster", {}).find() == ("127.0.0.1", 2)


async def test_from_its_promotion_on_a_replica_is_the_master() -> None:
    """Though the one that it replaces is watched until all others follow, which may take minutes."""
    async with informant(b"SENTINEL", master(2, 8, replaced=1)) as promoting:
        assert await Sentinels([("127.0.0.1", promoting.port)], "mymaster", {}).find() == ("127.0.0.1", 2)


async def test_when_no_sentinel_knows_the_last_one_s_reason_is_told() -> None:
    async with informant(b"SENTINEL", b"-ERR No such master with that name\r\n") as foreign:
        with pytest.raises(RedisConnectionError, match="No such master"):
            await Sentinels([("127.0.0.1", foreign.port)], "mymaster", {}).find()


async def test_a_cluster_node_that_hangs_is_not_waited_for() -> None:
    async with informant(b"CLUSTER", None) as hanging, informant(b"CLUSTER", slots(5)) as good:
        hosts = [("127.0.0.1", hanging.port)] * 3 + [("127.0.0.1", good.port)]
        assert await Cluster(hosts, {}).find(77) == ("127.0.0.1", 5)


async def test_a_cluster_node_with_an_old_map_is_not_the_only_one_that_is_asked() -> None:
    async with informant(b"CLUSTER", slots(1)) as stale, informant(b"CLUSTER", slots(2)) as fresh:
        cluster = Cluster([("127.0.0.1", stale.port), ("127.0.0.1", fresh.port)], {})
        found = {await cluster.find(77) for _ in range(4)}
        assert found == {("127.0.0.1", 1), ("127.0.0.1", 2)}


async def test_those_who_ask_at_the_same_time_share_one_answer() -> None:
    async with informant(b"CLUSTER", slots(5)) as node:
        cluster = Cluster([("127.0.0.1", node.port)], {})
        found = await asyncio.gather(*(cluster.find(slot) for slot in range(100)))
        assert set(found) == {("127.0.0.1", 5)}
        assert node.asked == 1
        await cluster.find(1)
        assert node.asked == 2


async def test_a_slot_that_nobody_serves_has_no_master() -> None:
    async with informant(b"CLUSTER", b"*0\r\n") as empty:
        with pytest.raises(RedisConnectionError, match="slot 77"):
            await Cluster([("127.0.0.1", empty.port)], {}).find(77)
