"""A producer in a process of its own: `produce.py jobs COUNT BYTES [MODEL…]`, or `produce.py latency COUNT`. Prints JSON."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

import uvloop

from coordinator.client import Producer

_CHUNK = 500
_AT_ONCE = 2
_PAUSE = 0.01
_WARM_UP = 200
_HEAD = 56
"""Bytes of the job document around the input, so that the whole has the size that was asked for."""


async def jobs(count: int, size: int, *models: str) -> dict[str, float]:
    """Submit `count` jobs, for the models in turn, as fast as they are taken; what the backlog limit refuses, again."""
    turns = itertools.cycle(models or ("noop",))
    value = "x" * max(1, size - _HEAD)
    async with Producer.open() as producer:
        await producer.submit_many("noop", [])
        left = count
        refused = 0
        begin, cpu = time.time(), time.process_time()

        async def submit() -> None:
            nonlocal left, refused
            while left > 0:
                some = min(_CHUNK, left)
                left -= some
                answers = await producer.submit_many(next(turns), [value] * some)
                again = sum(not isinstance(answer, str) for answer in answers)
                if again:
                    left += again
                    refused += again
                    await asyncio.sleep(_PAUSE)

        await asyncio.gather(*(submit() for _ in range(_AT_ONCE)))
        return {"begin": begin, "cpu": time.process_time() - cpu, "refused": refused}


async def latency(count: int) -> dict[str, float]:
    """One job in flight: from submit until its outcome was seen, ms."""
    times = []
    async with Producer.open() as producer:
        for turn in range(_WARM_UP + count):
            if turn == _WARM_UP:
                cpu = time.process_time()
            begin = time.perf_counter()
            await producer.wait(await producer.submit("noop", "x"))
            times.append((time.perf_counter() - begin) * 1000)
        cpu = time.process_time() - cpu
    times = sorted(times[_WARM_UP:])
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "cpu": cpu}


if __name__ == "__main__":
    if sys.argv[1] == "latency":
        print(json.dumps(uvloop.run(latency(int(sys.argv[2])))))
    else:
        print(json.dumps(uvloop.run(jobs(int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))))
