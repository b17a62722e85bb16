"""The digits model behind the coordinator, and the same model in a loop."""

from __future__ import annotations

import json
import sys
import time

import uvloop
from figures import Figure
from machine import machine

_REPEAT = 2


async def through() -> dict[str, float]:
    """All images through the coordinator by a `Producer`; seconds from the first submission to the last outcome."""
    import asyncio

    from coordinator.client import Producer
    from coordinator_examples.digits import images

    pixels, _ = images()
    async with Producer.open() as producer:
        warm = await producer.submit_many("digits", pixels[:64])
        await asyncio.gather(*(producer.wait(str(answer)) for answer in warm))
        begin = time.perf_counter()
        answers = await producer.submit_many("digits", pixels * _REPEAT)
        results = await asyncio.gather(*(producer.wait(str(answer)) for answer in answers))
        assert all(result.status == "succeeded" for result in results)
        return {"seconds": time.perf_counter() - begin, "jobs": len(results)}


def loop(batch: int) -> dict[str, float]:
    """The same images in one process, `batch` at a time."""
    from coordinator_examples import digits

    digits.train()
    pixels, _ = digits.images()
    pixels = pixels * _REPEAT
    digits.predict(pixels[:batch])
    begin = time.perf_counter()
    for at in range(0, len(pixels), batch):
        digits.predict(pixels[at : at + batch])
    return {"seconds": time.perf_counter() - begin, "jobs": len(pixels)}


def digits(_scale: float) -> list[Figure]:
    with machine() as m:
        m.dispatcher()
        m.worker("coordinator_examples.digits:worker")
        alone = json.loads(m.tool("digits.py", "loop", "16").communicate(timeout=120)[0])
        coordinated = json.loads(m.tool("digits.py", "through").communicate(timeout=120)[0])
        rates = [told["jobs"] / told["seconds"] for told in (coordinated, alone)]
        return [
            Figure("digits through the coordinator", rates[0], "jobs/s"),
            Figure("digits in a loop", rates[1], "jobs/s"),
            Figure("digits: coordinator / loop", rates[0] / rates[1], "", ">=0.9"),
        ]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(through()) if sys.argv[1] == "through" else loop(int(sys.argv[2]))))
