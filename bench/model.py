"""The digits model: `model.py loop BATCH REPEAT` calls it in a loop, `model.py through BATCH REPEAT` by the coordinator."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop

from coordinator.client import Producer
from coordinator_examples import digits


def loop(batch: int, repeat: int) -> dict[str, float]:
    """All images in this process, `batch` at a time."""
    digits.train()
    pixels, _ = digits.images()
    pixels = pixels * repeat
    digits.predict(pixels[:batch])
    begin, cpu = time.perf_counter(), time.process_time()
    for at in range(0, len(pixels), batch):
        digits.predict(pixels[at : at + batch])
    return {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu, "jobs": len(pixels)}


async def through(batch: int, repeat: int) -> dict[str, float]:
    """All images by a `Producer`, from the first submission until the last outcome was seen."""
    pixels, _ = digits.images()
    pixels = pixels * repeat
    async with Producer.open() as producer:
        warm = await producer.submit_many("digits", pixels[:batch])
        await asyncio.gather(*(producer.wait(str(answer)) for answer in warm))
        begin, cpu = time.perf_counter(), time.process_time()
        answers = await producer.submit_many("digits", pixels)
        results = await asyncio.gather(*(producer.wait(str(answer)) for answer in answers))
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        if any(result.status != "succeeded" for result in results):
            raise SystemExit("not all images were classified")
        return {"seconds": seconds, "cpu": cpu, "jobs": len(results)}


if __name__ == "__main__":
    _how, _batch, _repeat = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(uvloop.run(through(_batch, _repeat)) if _how == "through" else loop(_batch, _repeat)))
