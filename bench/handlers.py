"""Handlers that do nothing, so that what is measured is the coordinator."""

from __future__ import annotations

import os

from coordinator.worker import Worker

batch = Worker()
many = Worker()
"""Of all the models that BENCH_MODELS names."""
plain = Worker()
asynchronous = Worker()


@batch.model("noop", capacity=8, batch=256, batch_wait=0.0)
def _batch(inputs: list[str]) -> list[int]:
    return [1] * len(inputs)


for _name in os.environ.get("BENCH_MODELS", "").split():
    many.model(_name, capacity=8, batch=256, batch_wait=0.0)(_batch)


@plain.model("noop", capacity=256)
def _plain(_value: str) -> int:
    return 1


@asynchronous.model("noop", capacity=256)
async def _asynchronous(_value: str) -> int:
    return 1
