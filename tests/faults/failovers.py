"""Failovers: the load and the judge of a campaign, on Redis behind sentinels or on a cluster, whose masters die and hang.

    python tests/faults/failovers.py --on sentinel --seconds 300 --seed 7

Every job asks for `replicated`: what was accepted must outlive any one master. What was not asked for may be forgotten by a
failover: that a job was given to somebody, or was done. Then it is done again, so here outcomes may change, and are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import harm
from faults.campaign import RECOVERY_SECONDS, Injected, Report, schedule, take_stock
from faults.history import History, judge_lasting, judge_outcomes
from faults.lab import APIS, DISPATCHERS, MODELS, WORKERS, Lab
from faults.load import Load
from harness.clusters import Clustered, Node, NotYet, Replicated, clustered, replicated, until
from harness.system import System, joined
from redis.crc import key_slot

from coordinator.client import AsyncClient, Producer
from coordinator.core import keys
from coordinator.core.settings import Settings

KINDS: Final = ("sentinel", "cluster")
_REPLICAS: Final = {"sentinel": 2, "cluster": 1}
_PARTITIONS: Final = {"sentinel": 1, "cluster": 4}
_PROCESSES: Final = (harm.kill_worker, harm.kill_dispatcher, harm.kill_api, harm.pause_worker, harm.replace_worker)
_TIMES: Final = {"lease_seconds": 3.0, "heartbeat_seconds": 0.5, "durability": "replicated", "default_timeout": 10.0}


class Masters:
    """The servers of a deployment, and the harm that is done to them."""

    def __init__(self, deployment: Replicated | Clustered, partitions: int) -> None:
        self._deployment = deployment
        self._partitions = partitions
        self._replicas = len(deployment.nodes) - 1 if isinstance(deployment, Replicated) else 1

    async def _of(self, partition: int, but: Node | None = None) -> Node:
        if isinstance(self._deployment, Replicated):
            return await self._deployment.master()
        return await self._deployment.master_of(key_slot(keys.base(partition).encode()), but=but)

    async def _another(self, partition: int, than: Node) -> Node:
        node = await self._of(partition, than)
        if node is than:
            raise NotYet("it is still the master")
        return node

    async def kill_master(self, _: Lab, dice: random.Random) -> None:
        """The kernel kills a master; it comes back later, as a replica."""
        partition = dice.randrange(self._partitions)
        victim = await self._of(partition)
        victim.kill()
        await until(lambda: self._another(partition, victim), "there is another master", 30)
        await victim.start()

    async def hang_master(self, _: Lab, dice: random.Random) -> None:
        """A master stops answering, is replaced, and goes on as if nothing had been."""
        partition = dice.randrange(self._partitions)
        victim = await self._of(partition)
        victim.pause()
        try:
            await until(lambda: self._another(partition, victim), "there is another master", 30)
            await asyncio.sleep(dice.uniform(0.0, 2.0))
        finally:
            victim.resume()

    async def in_step(self) -> None:
        """Wait until each partition's master has all its replicas again: only then may the next one die."""
        for partition in range(self._partitions):
            await until(lambda p=partition: self._follow(p), "all replicas follow their master", 60)  # type: ignore[misc]

    async def _follow(self, partition: int) -> bool:
        info = await (await self._of(partition)).redis.info("replication")
        rows = [info.get(f"slave{i}", {}) for i in range(self._replicas)]
        return all(row.get("state") == "online" for row in rows)


@contextlib.asynccontextmanager
async def _deployed(kind: str, folder: Path) -> AsyncIterator[Replicated | Clustered]:
    if kind == "sentinel":
        async with replicated(folder, replicas=_REPLICAS[kind]) as behind_sentinels:
            yield behind_sentinels
    else:
        async with clustered(folder, masters=3, replicas=_REPLICAS[kind]) as cluster:
            yield cluster


async def run(kind: str, folder: Path, *, seed: int, seconds: float) -> tuple[Report, int]:
    """One campaign of failovers; its report, and how many outcomes were forgotten and became others."""
    history = History()
    injected: dict[str, Injected] = defaultdict(Injected)
    broken: list[str] = []
    partitions = _PARTITIONS[kind]
    async with contextlib.AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(_deployed(kind, folder / "redis"))
        masters = Masters(deployment, partitions)
        settings = Settings(redis_url=deployment.url, partitions=partitions, durability="replicated")
        system = stack.enter_context(
            System(folder / "system", deployment.url, max_crashes=history.max_crashes, partitions=partitions, **_TIMES)
        )
        async with Lab.around(system, history) as lab:
            await _start(lab, stack, settings)
            faults: dict[str, Callable[[Lab, random.Random], Awaitable[None]]] = {
                fault.__name__.replace("_", " "): fault
                for fault in (masters.kill_master, masters.hang_master, *_PROCESSES)
            }
            load = Load(lab.ways, history, seed, models=MODELS)
            began = time.monotonic()
            async with load.running(producers=10):
                for name, dice, _ in schedule(seed, list(faults)):
                    if time.monotonic() - began > seconds:
                        break
                    await faults[name](lab, dice)
                    over = time.monotonic()
                    injected[name].count += 1
                    if not await load.recovered(over, RECOVERY_SECONDS):
                        broken.append(f"late: not recovered {RECOVERY_SECONDS:g} s after '{name}'")
                    injected[name].recoveries.append(time.monotonic() - over)
                    await masters.in_step()
                lab.heal()
            history.executions = system.executions()
            broken += lab.complaints()
            await take_stock(settings, history)
    changed = sum(1 for text in judge_outcomes(history) if text.startswith("changed: "))
    seconds = time.monotonic() - began
    report = Report(
        seed, partitions, seconds, dict(injected), history, load.refusals, [*broken, *judge_lasting(history)]
    )
    return report, changed


async def _start(lab: Lab, stack: contextlib.AsyncExitStack, settings: Settings) -> None:
    apis = [lab.system.api(name) for name in APIS]
    for name in DISPATCHERS:
        lab.system.dispatcher(name)
    for i, name in enumerate(WORKERS):
        lab.system.worker(name, apis[i % len(apis)].url)
    for api in apis:
        await api.ready()
        lab.ways.append(await stack.enter_async_context(AsyncClient(api.url, timeout=10.0, patience=0.0)))
    lab.ways.append(await stack.enter_async_context(Producer.open(settings=settings)))
    async with apis[0].client() as client:
        await joined(client, *WORKERS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=KINDS, required=True)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as folder:
        report, changed = asyncio.run(run(arguments.on, Path(folder), seed=seed, seconds=arguments.seconds))
    print(f"on {arguments.on}: {report}")
    print(f"  {changed} outcomes were forgotten by a failover, and the jobs done again")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
