"""Handlers that do nothing, so that what is measured is the coordinator."""

from __future__ import annotations

from coordinator.worker import Worker

batch = Worker()
plain = Worker()
asynchronous = Worker()


@batch.model("noop", capacity=8, batch=256, batch_wait=0.0)
def _batch(inputs: list[str]) -> list[int]:
    return [1] * len(inputs)


@plain.model("noop", capacity=256)
def _plain(_value: str) -> int:
    return 1


@asynchronous.model("noop", capacity=256)
async def _asynchronous(_value: str) -> int:
    return 1
