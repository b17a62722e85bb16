"""Straight into Redis: for producers next to it that hand in jobs by the ten thousand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, Unpack, overload

from coordinator.client.errors import WaitTimeout
from coordinator.client.requests import JobRequest, Options, job_requests, new_job, to_json
from coordinator.client.results import JobResult, job_result
from coordinator.core import steps
from coordinator.core.connection import Connections
from coordinator.core.errors import CoordinatorError, InvalidInput, InvalidState, NotFound, RedisUnavailable
from coordinator.core.records import NewJob
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.waiting import Waiting

_ONE_WAIT: Final = 20.0
_PAUSE: Final = 0.2


class Producer:
    """Submits and waits without the HTTP API; same guarantees, same errors. Open it with `Producer.open`.

    A submission is sent again after a lost connection for `Settings.redis_patience`; refusals are raised at once: next
    to Redis, the producer itself knows best how to slow down.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._submitter = Submitter(connections, settings)
        self._waiting = Waiting(connections)

    @classmethod
    @asynccontextmanager
    async def open(cls, redis_url: str | None = None, *, settings: Settings | None = None) -> AsyncIterator[Self]:
        """Connect: `async with Producer.open(redis_url) as producer`.

        `settings` must be those of the deployment (limits, partitions); by default they are read from the environment.
        Raises `RedisUnavailable`, `Misconfigured`.
        """
        settings = settings or Settings()
        if redis_url is not None:
            settings = settings.model_copy(update={"redis_url": redis_url})
        async with await Connections.open(settings, client_name="producer") as connections:
            producer = cls(connections, settings)
            listening = asyncio.create_task(producer._waiting.run())
            try:
                yield producer
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening

    async def submit(
        self,
        model: str,
        input: Any,  # noqa: A002 - the API's word for it
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> str:
        """Hand in one job and return its request id. Calls at the same time share one step.

        Raises `InvalidInput`, `UnknownModel`, `BacklogFull`, `MemoryPressure`, `Conflict`, `RedisUnavailable`, `NotDurable`.
        """
        job = new_job(JobRequest(model, input, **options), idempotency_key)
        return (await self._submitter.submit(job)).request_id

    @overload
    async def submit_many(
        self, jobs: str, inputs: Iterable[Any], **options: Unpack[Options]
    ) -> list[str | CoordinatorError]: ...
    @overload
    async def submit_many(self, jobs: Iterable[JobRequest]) -> list[str | CoordinatorError]: ...
    async def submit_many(
        self, jobs: str | Iterable[JobRequest], inputs: Iterable[Any] | None = None, **options: Unpack[Options]
    ) -> list[str | CoordinatorError]:
        """Hand in many jobs: `submit_many("digits", images)`, or whole `JobRequest`s.

        Returns per job, in order, its request id or the error that kept it out; one bad job does not fail the others.
        """
        made: list[NewJob] = []
        errors: list[tuple[int, CoordinatorError]] = []
        if isinstance(jobs, str) and inputs is not None and not options:
            for i, value in enumerate(inputs):
                try:
                    made.append(NewJob(model=jobs, input=to_json(value)))
                except InvalidInput as error:
                    errors.append((i, error))
        else:
            for i, request in enumerate(job_requests(jobs, inputs, options)):
                try:
                    made.append(new_job(request))
                except InvalidInput as error:
                    errors.append((i, error))
        receipts = await self._submitter.submit_many(made)
        answers = [r if isinstance(r, CoordinatorError) else r.request_id for r in receipts]
        for i, wrong in errors:
            answers.insert(i, wrong)
        return answers

    async def cancel(self, request_id: str) -> None:
        """End a job wherever it is; a worker that runs it is told to stop. Cancelling twice is fine.

        Raises `NotFound`, `InvalidState` (it has another outcome already), `RedisUnavailable`.
        """
        done = await steps.cancel(self._connections.of_request(request_id), request_id)
        if done.outcome == "unknown":
            raise NotFound(
                f"There is no job with the id '{request_id}', or its result was kept for its time and is gone."
            )
        if done.outcome == "final":
            raise InvalidState(f"The job {request_id} is {done.before} already.")

    async def result(self, request_id: str, *, wait: float = 0.0) -> JobResult:
        """The job as it is; with `wait`, as soon as it is final or that many seconds have passed.

        Raises `NotFound`, `RedisUnavailable`.
        """
        return job_result(await self._waiting.result(request_id, wait))

    async def wait(self, request_id: str, *, timeout: float | None = None) -> JobResult:
        """The job once it is final, however long that takes, or up to `timeout` seconds. Redis may be away meanwhile.

        Raises `NotFound`, `WaitTimeout`, and `RedisUnavailable` if Redis is away when the time is over.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = _ONE_WAIT if deadline is None else max(0.0, deadline - loop.time())
            try:
                result = await self.result(request_id, wait=min(left, _ONE_WAIT))
            except RedisUnavailable:
                if deadline is not None and loop.time() + _PAUSE > deadline:
                    raise
                await asyncio.sleep(_PAUSE)
                continue
            if result.final:
                return result
            if deadline is not None and loop.time() >= deadline:
                raise WaitTimeout(result, timeout or 0.0)
