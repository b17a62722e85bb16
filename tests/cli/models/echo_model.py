"""A worker for the tests of `coordinator up`: it gives back its input, as late as it is told to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from coordinator.worker import Worker

worker = Worker()


@worker.model("echo", capacity=8)
async def echo(value: object) -> object:
    return value


@worker.model("held", capacity=8)
async def held(folder: str) -> str:
    """Says in `folder` that it runs, and ends once it finds there that it may."""
    (Path(folder) / "running").touch()
    while not (Path(folder) / "go").exists():
        await asyncio.sleep(0.01)
    return "held"
