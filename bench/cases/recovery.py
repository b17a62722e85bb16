"""Workers die with 100k jobs: how long until all of them are with somebody else."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from figures import Figure, Scale
from machine import machine, until

from cases import hand
from coordinator.core import keys

_LOST: Final = 10
_LEASE_SECONDS: Final = 2
_JUDGES_AFTER: Final = _LEASE_SECONDS + 3
"""A dispatcher judges nobody before it was in touch with Redis for a whole lease."""


def recovery(scale: Scale) -> list[Figure]:
    """Ten workers' inboxes, taken back and dealt anew by one dispatcher."""
    count = scale(100_000) // _LOST * _LOST
    lease = {"COORDINATOR_LEASE_SECONDS": str(_LEASE_SECONDS), "COORDINATOR_HEARTBEAT_SECONDS": "0.5"}

    async def run() -> list[Figure]:
        with machine(lease) as m:
            async with hand.partition_of(m) as p:
                lost = [f"lost{i}" for i in range(_LOST)]
                for worker in lost:
                    await hand.register(p, worker, ["m"], count // _LOST)
                await hand.submit(p, "m", count)
                await hand.assign_all(p, "m", lost)
                await hand.register(p, "heir", ["m"], count + hand.CALL)
                m.dispatcher()
                # Rebalancing would move the work by itself: nobody has a free slot until the workers are lost.
                await asyncio.sleep(_JUDGES_AFTER)
                heir = keys.inbox(0, "heir", "m")
                m.watch_calls()
                begin = time.perf_counter()
                await p.redis.zadd(keys.workers(0), dict.fromkeys(lost, 1))
                until(lambda: m.redis.xlen(heir) == count, "all is with the heir", 120, pause=0.01)
                seconds = time.perf_counter() - begin
                calls = m.longest_calls()
        worst = max(calls, key=lambda step: calls[step], default="")
        return [
            Figure(f"recovery of {count:,} jobs", seconds, "s", "<=3"),
            Figure(f"recovery, longest call ({worst})", calls.get(worst, 0.0), "ms", "<=5"),
        ]

    return asyncio.run(run())
