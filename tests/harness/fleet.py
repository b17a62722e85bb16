"""A dispatcher and plain workers inside the test's own event loop, and a producer that never gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.exceptions import RedisError

from coordinator.core import keys, membership, steps
from coordinator.core.clock import SystemClock
from coordinator.core.connection import Connections, Partition
from coordinator.core.duty import run_all, stop
from coordinator.core.errors import CoordinatorError, Refused
from coordinator.core.records import ModelOffer, NewJob
from coordinator.core.results import Result, result_of
from coordinator.core.settings import Settings
from coordinator.core.steps import Completion
from coordinator.core.submitter import Submitter
from coordinator.dispatcher.main import duties_of


class EchoWorker:
    """Answers each job with its input. Registers again whenever the coordinator does not know it any more."""

    def __init__(self, connections: Connections, settings: Settings, worker_id: str, models: Sequence[str]) -> None:
        self._connections = connections
        self._settings = settings
        self.worker_id = worker_id
        self._models = models
        self.runs: dict[str, int] = {}

    async def register(self) -> None:
        await membership.register(
            self._connections,
            self._settings,
            worker_id=self.worker_id,
            models={model: ModelOffer(capacity=50) for model in self._models},
            metadata={},
            incarnation=f"{self.worker_id}-1",
        )

    async def run(self) -> None:
        loops = [self._beat(), *(self._serve(self._connections.of_model(model), model) for model in self._models)]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.gather(*tasks)
        finally:
            await stop(tasks)

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(Refused):
                if await membership.heartbeat(self._connections, self._settings, self.worker_id) == "unknown":
                    await self.register()
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _serve(self, partition: Partition, model: str) -> None:
        stream = keys.inbox(partition.index, self.worker_id, model)
        while True:
            redis: Any = partition.blocking()
            try:
                since = "0"  # what was delivered and not answered before
                while True:
                    block = 500 if since == ">" else None
                    rows = await redis.xreadgroup(
                        keys.INBOX_GROUP, self.worker_id, {stream: since}, count=50, block=block
                    )
                    entries = rows[0][1] if rows else []
                    if entries:
                        await self._finish(partition, model, entries)
                    else:
                        since = ">"
            except (RedisError, OSError, CoordinatorError):
                await asyncio.sleep(0.05)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await redis.aclose()

    async def _finish(self, partition: Partition, model: str, entries: Sequence[Any]) -> None:
        done = []
        for entry, flat in entries:
            if flat is None:
                continue  # was taken away while we were cut off
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            head, _, rest = fields[b"job"].partition(b',"input":')
            self.runs[fields[b"id"].decode()] = self.runs.get(fields[b"id"].decode(), 0) + 1
            tail = b'"attempts":%b,%b,"output":%b' % (fields[b"attempt"], head[1:], rest)
            done.append(Completion(entry, fields[b"id"], tail))
        await steps.complete(partition, self.worker_id, model, done)


@contextlib.asynccontextmanager
async def fleet(settings: Settings, models: Sequence[str], *, workers: int = 2) -> AsyncIterator[list[EchoWorker]]:
    """A dispatcher and `workers` that serve `models`, each with connections of its own."""
    async with contextlib.AsyncExitStack() as stack:
        own = [
            await stack.enter_async_context(await Connections.open(settings, client_name=f"fleet-{i}"))
            for i in range(workers + 1)
        ]
        members = [EchoWorker(own[i], settings, f"echo-{i}", models) for i in range(workers)]
        for member in members:
            await member.register()
        duties = [duty for partition in own[-1].partitions for duty in duties_of(partition, settings, SystemClock())]
        task = asyncio.create_task(run_all([*members, *duties]))
        try:
            yield members
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Producer:
    """Submits one job after another in several tasks, each under a key of its own, until it is accepted."""

    def __init__(
        self, connections: Connections, settings: Settings, models: Sequence[str], durability: str | None = None
    ) -> None:
        self._submitter = Submitter(connections, settings)
        self._models = models
        self._durability = durability
        self._count = 0
        self._closing = False
        self.accepted: list[str] = []
        self.refusals: list[str] = []
        self.longest_silence = 0.0

    @contextlib.asynccontextmanager
    async def running(self, tasks: int = 4) -> AsyncIterator[None]:
        """Submit all the time; at the end each task finishes the job that it is about."""
        running = [asyncio.create_task(self._submit_for_ever()) for _ in range(tasks)]
        try:
            yield
            self._closing = True
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def has_accepted(self, count: int) -> bool:
        return len(self.accepted) >= count

    async def _submit_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._count += 1
            number, began = self._count, loop.time()
            model = self._models[number % len(self._models)]
            job = NewJob(
                model=model, input=b"%d" % number, idempotency_key=f"job-{number}", durability=self._durability
            )
            while True:
                try:
                    receipt = await self._submitter.submit(job)
                    break
                except Refused as error:
                    self.refusals.append(str(error))
                    await asyncio.sleep(0.02)
            self.longest_silence = max(self.longest_silence, loop.time() - began)
            self.accepted.append(receipt.request_id)
            await asyncio.sleep(0.001)


async def outcomes(connections: Connections, request_ids: Sequence[str]) -> dict[str, Result | None]:
    """What became of the jobs, now. None: no such job."""
    found: dict[str, Result | None] = {}
    for partition in connections.partitions:
        mine = [request_id for request_id in request_ids if connections.of_request(request_id) is partition]
        for at in range(0, len(mine), 200):
            some = mine[at : at + 200]
            rows = await steps.read(partition, some)
            found.update((i, row and result_of(i, row)) for i, row in zip(some, rows, strict=True))
    return found
