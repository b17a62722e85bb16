"""A worker moved by hand: the test says when a job is assigned, taken and finished. It uses the steps, as all workers do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from coordinator.core import keys, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.records import ModelOffer, Problem
from coordinator.core.steps import Completion, Failure

_LONG_MS: Final = 3_600_000
_PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Taken:
    """A job that the worker was given."""

    entry: bytes
    request_id: str
    attempt: int
    head: bytes
    input: Any


@dataclass
class Hand:
    """One registered worker of one model."""

    connections: Connections
    model: str
    name: str = "hand"
    window: int = 5000

    @property
    def partition(self) -> Partition:
        return self.connections.of_model(self.model)

    async def register(self) -> None:
        offer = ModelOffer(capacity=self.window, window=self.window)
        assert await steps.register(self.partition, self.name, "1", {self.model: offer}, b"{}", lease_ms=_LONG_MS)

    async def backlog(self) -> int:
        """How many jobs of the model wait in their lanes."""
        depths = [
            await self.partition.redis.xlen(keys.jobs(self.partition.index, self.model, lane)) for lane in keys.LANES
        ]
        return sum(depths)

    async def waited_for(self, request_id: str) -> None:
        """Return once somebody waits for the job's outcome."""
        waiters = keys.waiters(self.partition.index)
        async with asyncio.timeout(_PATIENCE):
            while not await self.partition.redis.hexists(waiters, request_id):
                await asyncio.sleep(0.01)

    async def take(self, count: int = 5000) -> list[Taken]:
        """Assign what waits and read up to `count` jobs."""
        await steps.assign(self.partition, self.model, [self.name], batch=count, lifetime_ms=_LONG_MS)
        inbox = keys.inbox(self.partition.index, self.name, self.model)
        rows = await self.partition.redis.xreadgroup("worker", self.name, {inbox: ">"}, count=count)
        return [_taken(entry, fields) for _, entries in rows or [] for entry, fields in entries]

    async def next(self) -> Taken:
        """The next job, once there is one."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                for job in await self.take(1):
                    return job
                await asyncio.sleep(0.005)

    async def finish(self, job: Taken, output: Any) -> None:
        tail = b'"attempts":%d,%b,"output":%b}' % (job.attempt, job.head, msgspec.json.encode(output))
        done = Completion(job.entry, job.request_id.encode(), tail)
        assert await steps.complete(self.partition, self.name, self.model, [done]) == [1]

    async def fail(self, job: Taken, message: str) -> None:
        failure = Failure(job.entry, "final", 0, Problem("exception", message))
        answer = await steps.fail(
            self.partition,
            self.name,
            self.model,
            [failure],
            max_attempts=3,
            lifetime_ms=_LONG_MS,
            dead_retention_ms=_LONG_MS,
        )
        assert answer == ["dead"]


def _taken(entry: bytes, flat: list[bytes]) -> Taken:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    head, _, value = fields[b"job"].partition(b',"input":')
    return Taken(entry, fields[b"id"].decode(), int(fields[b"attempt"]), head[1:], msgspec.json.decode(value[:-1]))
