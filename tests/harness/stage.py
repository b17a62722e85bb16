"""Worker runtimes inside the test's own event loop, and what a test asks of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from harness.field import Field

from coordinator.core import membership
from coordinator.core.connection import Connections
from coordinator.core.records import ModelOffer, NewJob
from coordinator.core.results import Result
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.waiting import Waiting
from coordinator.worker import Worker
from coordinator.worker.handlers import Handler
from coordinator.worker.policy import Policy, Registered
from coordinator.worker.runtime import Runtime

SECONDS = 20.0
"""After so long a test gives up waiting."""


class DirectRegistrar:
    """Registers as the API does, without the HTTP."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self.calls = 0

    async def register(
        self,
        handlers: Mapping[str, Handler],
        metadata: Mapping[str, Any],
        *,
        worker_id: str | None,
        incarnation: str | None,
    ) -> Registered:
        self.calls += 1
        offers = {
            model: ModelOffer(
                capacity=handler.slots,
                window=handler.window,
                version=handler.version,
                timeout_ms=None if handler.timeout is None else round(handler.timeout * 1000),
            )
            for model, handler in handlers.items()
        }
        told = await membership.register(
            self._connections,
            self._settings,
            worker_id=worker_id,
            models=offers,
            metadata=dict(metadata),
            incarnation=incarnation,
        )
        return Registered(**msgspec.structs.asdict(told), settings=Policy.of(self._settings))


class Stage:
    """Submits jobs, runs workers, looks at results."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self.settings = settings
        self.connections = connections
        self.field = Field(connections.partitions[0])
        self.registrar = DirectRegistrar(connections, settings)
        self._submitter = Submitter(connections, settings)
        self.waiting = Waiting(connections)

    async def submit(self, model: str, value: Any, **options: Any) -> str:
        job = NewJob(model=model, input=msgspec.json.encode(value), **options)
        return (await self._submitter.submit(job)).request_id

    async def submit_many(self, model: str, values: list[Any]) -> list[str]:
        return list(await asyncio.gather(*(self.submit(model, value) for value in values)))

    async def result(self, request_id: str) -> Result:
        """The job once it is final."""
        result = await self.waiting.result(request_id, SECONDS)
        assert result.final, result
        return result

    async def output(self, request_id: str) -> Any:
        result = await self.result(request_id)
        assert result.status == "succeeded", result
        assert isinstance(result.output, msgspec.Raw)
        return msgspec.json.decode(result.output)

    async def run(self, model: str, value: Any, **options: Any) -> Any:
        return await self.output(await self.submit(model, value, **options))

    async def failed(self, model: str, value: Any, **options: Any) -> Result:
        result = await self.result(await self.submit(model, value, **options))
        assert result.status == "failed", result
        return result

    async def start(self, worker: Worker, **options: Any) -> tuple[Runtime, asyncio.Task[None]]:
        """A worker that is registered and reads."""
        runtime = Runtime(worker, self.registrar, self.settings, **options)
        task = asyncio.create_task(runtime.run())
        await until(lambda: task.done() or (runtime.services and runtime.lease.heart_pid))
        if task.done():
            task.result()
        return runtime, task

    @asynccontextmanager
    async def running(self, worker: Worker, **options: Any) -> AsyncIterator[Runtime]:
        """The same, stopped in the end, which must work."""
        runtime, task = await self.start(worker, **options)
        try:
            yield runtime
        finally:
            runtime.stop()
            async with asyncio.timeout(SECONDS):
                await task


async def until(holds: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait until `holds()`."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
