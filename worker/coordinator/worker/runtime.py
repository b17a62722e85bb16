"""The runtime: a worker process's composition root, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import platform
import socket
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from coordinator.core import keys, logging, membership
from coordinator.core.clock import Clock, SystemClock
from coordinator.core.connection import Connections
from coordinator.core.duty import Duty, run_all, stop
from coordinator.core.errors import CoordinatorError, InvalidInput, Misconfigured, NotFound, RedisUnavailable
from coordinator.core.settings import Settings
from coordinator.worker.definition import Hook, Worker
from coordinator.worker.gate import Gate
from coordinator.worker.lease import Lease, Superseded
from coordinator.worker.policy import Registered
from coordinator.worker.registrar import Registrar
from coordinator.worker.service import Service
from coordinator.worker.watch import Holdings, StuckGuard, TimeLimits

_SIGN_OFF_SECONDS: Final = 3.0
"""For handing back what is left, at the very end."""
_AWAY_PAUSE: Final = 0.2
_GC_THRESHOLDS: Final = (50_000, 20, 100)


class Runtime:
    """Runs one worker. `stop()` begins the drain; a second one cuts it short."""

    def __init__(
        self,
        worker: Worker,
        registrar: Registrar,
        settings: Settings,
        *,
        worker_id: str | None = None,
        grace: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not worker.handlers:
            raise InvalidInput("This worker serves no model: decorate a function with @worker.model(name).")
        for handler in worker.handlers.values():
            handler.decoder()
        self._worker = worker
        self._settings = settings
        self._grace = settings.drain_seconds if grace is None else grace
        self._clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._log = logging.get("worker")
        self.lease = Lease(registrar, worker.handlers, _metadata(worker), self._clock, worker_id=worker_id)
        self.services: list[Service] = []

    @property
    def left_running(self) -> bool:
        """Handlers still run that nobody waits for: the process can't end in the ordinary way."""
        return any(service.runner.stuck for service in self.services)

    def stop(self) -> None:
        """Take no more work, finish what runs within the grace time, hand the rest back. Again: at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped. Startup hooks must have run. Raises what made it impossible to go on."""
        registered = await self._unless_stopped(self.lease.enter())
        if registered is None:
            self.lease.close()
            return
        # The worker's own environment knows the password; what the API tells does not.
        own = "redis_url" in self._settings.model_fields_set
        redis_url = self._settings.redis_url if own else registered.redis_url
        settings = self._settings.model_copy(update={"redis_url": redis_url, "partitions": registered.partitions})
        connections = await self._unless_stopped(
            Connections.open(settings, client_name=f"worker-{registered.worker_id}", wait=float("inf"))
        )
        if connections is None:
            return
        async with connections:
            if own:
                await self._unless_stopped(check_same_redis(registered, connections))
            self.lease.keep(registered, redis_url)
            await self._serve(registered, connections, settings)

    async def _serve(self, registered: Registered, connections: Connections, settings: Settings) -> None:
        gate = Gate()
        self.services = [
            Service(
                handler,
                registered.models[model],
                connections.partitions[registered.models[model].partition],
                registered.worker_id,
                registered.settings,
                gate,
                gone=partial(self.lease.enter_again, connections.partitions[registered.models[model].partition]),
                allow=self.lease.allow,
            )
            for model, handler in self._worker.handlers.items()
        ]
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        watchers: list[Duty] = [TimeLimits(self.services, self._clock), Holdings(self.services, self._clock)]
        keeping = asyncio.create_task(self.lease.run(), name="lease")
        watching = asyncio.create_task(run_all(watchers), name="watch")
        reading = asyncio.create_task(self._read(), name="read")
        guarding = asyncio.create_task(StuckGuard(self.services, self._clock).run(), name="guard")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            await asyncio.wait((keeping, watching, guarding, reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            self.lease.leave()
            await stop([reading])
            if not (keeping.done() and isinstance(keeping.exception(), Superseded)):
                await self._drain(registered, connections, settings)
        finally:
            for service in self.services:
                service.close()
            # The lease goes last: while anything runs it must be kept.
            for task in (reading, stopping, guarding, watching, keeping):
                await stop([task])
        for task in (keeping, guarding, watching, reading):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _read(self) -> None:
        await self.lease.beats.wait()
        await run_all([service.inbox for service in self.services])

    async def _drain(self, registered: Registered, connections: Connections, settings: Settings) -> None:
        """Give back what is not started, wait for what runs, then leave."""
        self._log.info("drains", in_work=sum(service.in_work for service in self.services), grace_seconds=self._grace)
        hurried = asyncio.create_task(self._hurry.wait(), name="hurry")
        finishing = asyncio.create_task(self._finish(connections, registered.worker_id), name="finish")
        try:
            await asyncio.wait((hurried, finishing), timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop([hurried, finishing])
        left = sum(service.in_work for service in self.services)
        if left:
            self._log.warning("hands back jobs that were not finished in time", jobs=left)
        told = registered.settings
        settings = settings.model_copy(
            update={
                "max_attempts": told.max_attempts,
                "max_job_lifetime": told.max_job_lifetime_seconds,
                "dead_retention": told.dead_retention_seconds,
            }
        )
        try:
            async with asyncio.timeout(_SIGN_OFF_SECONDS):
                await membership.retire(connections, settings, registered.worker_id)
        except NotFound:
            pass
        except (CoordinatorError, TimeoutError) as error:
            self._log.warning("can't sign off; when our lease is over, our jobs are taken back", error=str(error))

    async def _finish(self, connections: Connections, worker_id: str) -> None:
        try:
            with contextlib.suppress(NotFound):
                await membership.drain(connections, worker_id)
            await asyncio.gather(*(service.hand_back() for service in self.services))
        except Exception as error:
            self._log.warning("can't hand back what was not started", error=str(error))
        await asyncio.gather(*(service.finished() for service in self.services))

    async def _unless_stopped(self, work: Any) -> Any:
        """Await `work`; None if we are stopped first."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            await stop([task, stopping])


async def check_same_redis(registered: Registered, connections: Connections) -> None:
    """Raise `Misconfigured` unless the Redis that our environment names is the one that we are registered in.

    However long it may be away.
    """
    place = connections.partitions[next(iter(registered.models.values())).partition]
    key = keys.worker(place.index, registered.worker_id)
    found: int | None = None
    while found is None:
        try:
            found = await place.patiently(lambda: place.redis.exists(key))
        except RedisUnavailable:
            await asyncio.sleep(_AWAY_PAUSE)
    if found == 0:
        raise Misconfigured(
            "COORDINATOR_REDIS_URL names another Redis than the coordinator's: the registration is not in it. "
            f"The coordinator says {registered.redis_url}."
        )


async def call_hooks(hooks: Sequence[Hook]) -> None:
    """Call startup or shutdown hooks, in their order."""
    for hook in hooks:
        result = hook()
        if inspect.isawaitable(result):
            await result


def _metadata(worker: Worker) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "release": version("central-coordinator"),
        **worker.metadata,
    }
