"""Does a job cost the same in a large system? Each large system beside a small one, in turns.

The load is a closed loop, so that the backlog stays as deep as it was made: 256 jobs are submitted, and 256 that a real
dispatcher has assigned are read and completed. Every model has a backlog of that many, so that no system makes smaller
calls than another. Counted is the CPU of Redis, dispatcher and this process together.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Final

from figures import Figure, Scale, costs
from machine import Machine, machine

from cases import hand
from coordinator.core.connection import Partition

_WORKER: Final = "w"
_PAGE: Final = 100
_AWAY_MS: Final = 5000
_TURNS: Final = 5
_SETTLE_SECONDS: Final = 2.5
_IDLE_SECONDS: Final = 3.0


class System:
    """A Redis and a dispatcher. One worker takes jobs of all models; the others are full, and looked at all the same."""

    def __init__(self, m: Machine, p: Partition, models: int) -> None:
        self._m = m
        self._p = p
        self._models = [f"m{i}" for i in range(models)]
        self._turn = 0
        self._jobs = 0
        self._used: defaultdict[str, float] = defaultdict(float)

    async def grow(self, workers: int, backlog: int) -> None:
        full = [f"full{i}" for i in range(workers - 1)]
        for worker in full:
            await hand.register(self._p, worker, self._models, 1)
        for model in self._models if full else ():
            await hand.submit(self._p, model, len(full))
            for at in range(0, len(full), _PAGE):
                await hand.assign_all(self._p, model, full[at : at + _PAGE])
        await hand.register(self._p, _WORKER, self._models, 4 * hand.CALL)
        for model in self._models:
            await hand.submit(self._p, model, max(hand.CALL, backlog // len(self._models)))
        self._m.dispatcher()
        await self._loop(len(self._models) * hand.CALL)

    async def run(self, jobs: int) -> None:
        """Send jobs through, and count what is used meanwhile."""
        before, own = self._m.cpu(), time.process_time()
        self._jobs += await self._loop(jobs)
        self._used["producer"] += time.process_time() - own
        for process, used in self._m.cpu().items():
            self._used[process] += used - before[process]

    async def _loop(self, jobs: int) -> int:
        done = 0
        while done < jobs:
            model = self._models[self._turn % len(self._models)]
            self._turn += 1
            await hand.submit(self._p, model, hand.CALL)
            entries = await hand.read(self._p, _WORKER, model, _AWAY_MS)
            if not entries:
                raise SystemExit(f"bench: no job was assigned within {_AWAY_MS} ms")
            await hand.complete(self._p, _WORKER, model, entries)
            done += len(entries)
        return done

    @property
    def us(self) -> dict[str, float]:
        """CPU us per job by process."""
        return {process: used / self._jobs * 1e6 for process, used in self._used.items()}

    async def idle(self) -> float:
        """What the dispatcher uses when nothing happens, in % of a core."""
        before = self._m.cpu()["dispatcher"]
        await asyncio.sleep(_IDLE_SECONDS)
        return (self._m.cpu()["dispatcher"] - before) / _IDLE_SECONDS * 100


def growth(scale: Scale) -> list[Figure]:
    jobs = scale(40_000) // _TURNS
    deep = f"backlog {scale.backlog // 1000}k"

    async def run() -> list[Figure]:
        async with AsyncExitStack() as stack:

            async def system(workers: int = 1, models: int = 1, backlog: int = 1000) -> System:
                m = stack.enter_context(machine())
                made = System(m, await stack.enter_async_context(hand.partition_of(m)), models)
                await made.grow(workers, backlog)
                return made

            small = await system()
            large = {
                deep: await system(backlog=scale.backlog),
                "1000 workers": await system(workers=1000),
                "200 models": await system(models=200),
            }
            for _ in range(_TURNS):
                for one in (small, *large.values()):
                    await one.run(jobs)
            await asyncio.sleep(_SETTLE_SECONDS)
            idle = {name: await one.idle() for name, one in large.items() if name != deep}
        base = sum(small.us.values())
        return [
            *(Figure(f"cost per job, {n} / small", sum(s.us.values()) / base, "", "<=1.15") for n, s in large.items()),
            *(Figure(f"idle dispatcher, {name}", share, "% of a core") for name, share in idle.items()),
            *costs("backlog 1k, 1 worker, 1 model", small.us),
            *(figure for name, one in large.items() for figure in costs(name, one.us)),
        ]

    return asyncio.run(run())
