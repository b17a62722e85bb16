"""Bytes of Redis per job: queued, finished, and when all is gone."""

from __future__ import annotations

import asyncio

from figures import Figure, Scale
from machine import Machine, machine, until

from cases import hand


def memory(scale: Scale) -> list[Figure]:
    count = scale(100_000)

    def used(m: Machine) -> int:
        return int(m.redis.info("memory")["used_memory"])

    async def run() -> list[Figure]:
        with machine() as m:
            async with hand.partition_of(m) as p:
                # The first jobs make keys and load scripts; what they leave belongs to an empty system.
                await hand.register(p, "w", ["m"], hand.CALL)
                await hand.submit(p, "m", hand.CALL)
                await hand.assign_all(p, "m", ["w"])
                await hand.finish(p, "w", "m")
                m.redis.unlink(*m.redis.keys("coord:[{]0[}]:results:*"))
                empty = used(m)
                await hand.submit(p, "m", count)
                queued = used(m)
                done = 0
                while done < count:
                    await hand.assign_all(p, "m", ["w"])
                    done += await hand.finish(p, "w", "m")
                finished = used(m)
                # As the janitor does it when the retention is over.
                m.redis.unlink(*m.redis.keys("coord:[{]0[}]:results:*"))
                until(lambda: m.redis.info("memory")["lazyfree_pending_objects"] == 0, "the memory is given back")
                left = used(m)
        return [
            Figure("memory per queued job", (queued - empty) / count, "bytes", "<=450"),
            Figure("memory per finished job", (finished - empty) / count, "bytes"),
            Figure("left when all is gone", (left - empty) / count, "bytes per job", "<=1"),
        ]

    return asyncio.run(run())
