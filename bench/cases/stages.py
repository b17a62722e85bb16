"""Where Redis's time of a job goes: CPU us of each step, 256 jobs a call."""

from __future__ import annotations

import asyncio
import itertools

import cpu
from figures import Figure, Scale
from machine import machine

from cases import hand


def stages(scale: Scale) -> list[Figure]:
    count = scale(40_000)

    async def run() -> list[Figure]:
        with machine() as m:
            async with hand.partition_of(m) as p:
                await hand.register(p, "w", ["m"], 10**9)
                m.watch_calls()
                for jobs in (1000, count):
                    times = [cpu.of_redis(m.redis)]
                    await hand.submit(p, "m", jobs)
                    times.append(cpu.of_redis(m.redis))
                    await hand.assign_all(p, "m", ["w"])
                    times.append(cpu.of_redis(m.redis))
                    pages = []
                    while page := await hand.read(p, "w", "m"):
                        pages.append(page)
                    times.append(cpu.of_redis(m.redis))
                    for page in pages:
                        await hand.complete(p, "w", "m", page)
                    times.append(cpu.of_redis(m.redis))
                longest = m.longest_calls()
        stage = ("submit", "assign", "read", "complete")
        spent = [(after - before) / count * 1e6 for before, after in itertools.pairwise(times)]
        return [
            *(Figure(f"redis CPU, {name}", us, "us/job") for name, us in zip(stage, spent, strict=True)),
            Figure("longest assign call, nothing beside it", longest.get("assign", 0.0), "ms", "<=2"),
        ]

    return asyncio.run(run())
