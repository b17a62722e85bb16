"""A campaign: a load of all kinds of jobs, faults in an order that the seed decides, and the judgement in the end."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faults.harm import FAULTS
from faults.history import History, judge, sight_of
from faults.lab import MODELS, Lab
from faults.load import Load
from harness.field import Field
from harness.redis import RedisServer

from coordinator.core import keys, steps
from coordinator.core.connection import Connections
from coordinator.core.results import result_of
from coordinator.core.settings import Settings

RECOVERY_SECONDS: Final = 90.0
"""A system that needs longer has not recovered."""
_CALM_SECONDS: Final = 0.5
_PAGE: Final = 200


@dataclass
class Injected:
    """All faults of one kind."""

    count: int = 0
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of the harm until everything accepted until then was over."""


@dataclass
class Report:
    """What a campaign came to."""

    seed: int
    partitions: int
    seconds: float
    faults: dict[str, Injected]
    history: History
    refusals: int
    violations: list[str]

    def __str__(self) -> str:
        ids = {job.request_id for job in self.history.accepted}
        ends = [end.status if not end.error else f"{end.status} ({end.error})" for end in self.history.ends.values()]
        kinds = {name: ends.count(name) for name in sorted(set(ends))}
        lost = len({text.split()[1] for text in self.violations if text.startswith("lost: ")})
        lines = [
            f"campaign of {self.seconds:.0f} s, seed {self.seed}, {self.partitions} partition(s): "
            f"{len(ids)} jobs accepted, {lost} lost, "
            f"{self.history.run_twice} run twice; {self.refusals} refusals, each tried again",
            "  " + ", ".join(f"{count} {name}" for name, count in kinds.items()),
            f"  {'fault':18} injected   recovery p50     max (s)",
        ]
        for name, injected in sorted(self.faults.items()):
            times = injected.recoveries
            if times:
                lines.append(f"  {name:18} {injected.count:8}   {statistics.median(times):12.2f}  {max(times):6.2f}")
            else:
                lines.append(f"  {name:18} {injected.count:8}")
        return "\n".join(lines + [f"  BROKEN: {violation}" for violation in self.violations[:50]])


def partitions_of(seed: int) -> int:
    """Campaigns are run with one partition and with three: one of two models, one of one, one that stays empty."""
    return 1 + seed % 2 * 2


def schedule(seed: int, names: list[str]) -> Iterator[tuple[str, random.Random, bool]]:
    """Endless: which fault, the dice for it, and whether to wait afterwards until the system has recovered."""
    dice = random.Random(seed)
    while True:
        bag = list(names)
        dice.shuffle(bag)
        for name in bag:
            yield name, random.Random(dice.getrandbits(64)), dice.random() < 0.75


async def run(
    folder: Path, server: RedisServer, *, seed: int, seconds: float, names: list[str] | None = None
) -> Report:
    """Run one campaign on a server that is up, has an append-only file, and is empty."""
    history = History()
    faults: dict[str, Injected] = defaultdict(Injected)
    broken: list[str] = []
    partitions = partitions_of(seed)
    async with Lab.open(folder, server, history, seed, partitions) as lab:
        load = Load(lab.ways, history, seed, models=MODELS)
        began = time.monotonic()
        async with load.running():
            for name, dice, wait in schedule(seed, names or list(FAULTS)):
                if time.monotonic() - began > seconds:
                    break
                await FAULTS[name](lab, dice)
                over = time.monotonic()
                faults[name].count += 1
                if wait:
                    if not await load.recovered(over, RECOVERY_SECONDS):
                        broken.append(f"late: not recovered {RECOVERY_SECONDS:g} s after '{name}'")
                    faults[name].recoveries.append(time.monotonic() - over)
                await asyncio.sleep(dice.uniform(0, 2 * _CALM_SECONDS))
            lab.heal()
        history.executions = lab.system.executions()
        broken += lab.complaints()
        await take_stock(Settings(redis_url=server.url(), partitions=partitions), history)
    seconds = time.monotonic() - began
    return Report(seed, partitions, seconds, dict(faults), history, load.refusals, [*broken, *judge(history)])


async def take_stock(settings: Settings, history: History) -> None:
    """What Redis says in the end, straight from the server."""
    async with await Connections.open(settings, client_name="judge") as connections:
        everything = {job.request_id for job in history.accepted}
        for partition in connections.partitions:
            ids = sorted(i for i in everything if connections.of_request(i) is partition)
            for at in range(0, len(ids), _PAGE):
                some = ids[at : at + _PAGE]
                for request_id, found in zip(some, await steps.read(partition, some), strict=True):
                    if found is not None:
                        history.ends[request_id] = sight_of(time.monotonic(), result_of(request_id, found))
            history.remains += [what async for what in _remains(Field(partition), set(ids))]


async def _remains(field_: Field, ids: set[str]) -> AsyncIterator[str]:
    """What a system with nothing to do should not hold."""
    try:
        records = await field_.census()
    except AssertionError as error:
        yield f"{error}"
        return
    for request_id, record in records.items():
        if request_id not in ids:
            yield f"{request_id}, a job that was never accepted, is {record.status}"
    for request_id, places in (await field_.places()).items():
        yield f"{request_id} lies in {places[0][0]}"
    for waiter in await field_.redis.hkeys(keys.waiters(field_.p)):
        if waiter.decode() in records:
            yield f"somebody waits for {waiter.decode()}, which is over"
    base = keys.base(field_.p).replace("{", "[{]").replace("}", "[}]")
    async for key in field_.redis.scan_iter(match=f"{base}inbox:*", count=1000):
        pending = await field_.redis.execute_command("XPENDING", key, keys.INBOX_GROUP)
        if pending["pending"] if isinstance(pending, dict) else pending[0]:
            yield f"{key.decode()} has a pending entry"
