"""A producer in a process of its own: `produce.py COUNT BYTES [latency]`. Prints its figures as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from coordinator.client import Producer

_CHUNK = 500
_AT_ONCE = 2


async def throughput(count: int, size: int) -> dict[str, float]:
    """Submit `count` jobs as fast as they are taken; what the backlog limit refuses is submitted again."""
    value = "x" * max(1, size - 80)
    async with Producer.open() as producer:
        left = count
        begin, cpu = time.time(), time.process_time()

        async def submit() -> None:
            nonlocal left
            while left > 0:
                some = min(_CHUNK, left)
                left -= some
                answers = await producer.submit_many("noop", [value] * some)
                refused = sum(not isinstance(answer, str) for answer in answers)
                if refused:
                    left += refused
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(submit() for _ in range(_AT_ONCE)))
        return {"begin": begin, "end": time.time(), "cpu": time.process_time() - cpu}


async def latency(count: int) -> dict[str, float]:
    """One job in flight: from submit to its outcome, ms."""
    times = []
    async with Producer.open() as producer:
        for _ in range(count + 200):
            begin = time.perf_counter()
            await producer.wait(await producer.submit("noop", "x"))
            times.append((time.perf_counter() - begin) * 1000)
    times = sorted(times[200:])
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


if __name__ == "__main__":
    if sys.argv[3:] == ["latency"]:
        print(json.dumps(uvloop.run(latency(int(sys.argv[1])))))
    else:
        print(json.dumps(uvloop.run(throughput(int(sys.argv[1]), int(sys.argv[2])))))
