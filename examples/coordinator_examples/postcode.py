"""Postcodes: an async handler that is itself a producer, and asks another model for each part of its answer.

    coordinator worker coordinator_examples.digits:worker &
    coordinator worker coordinator_examples.postcode:worker

The input is a list of images of digits; the output is the text they make. The handler only waits, so that one process
serves many postcodes at once, and the digits of all of them share the batches of the model `digits`.
"""

from __future__ import annotations

import os

from coordinator.client import AsyncClient
from coordinator.worker import Worker

worker = Worker()
clients: list[AsyncClient] = []


@worker.startup
async def connect() -> None:
    clients.append(AsyncClient(os.environ.get("COORDINATOR_URL", "http://127.0.0.1:8000")))


@worker.shutdown
async def disconnect() -> None:
    await clients.pop().close()


@worker.model("postcode", capacity=64, timeout=20)
async def read(images: list[list[float]]) -> str:
    (client,) = clients
    return "".join([str(result.value(int)) async for result in client.map("digits", images)])
