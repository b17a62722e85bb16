"""The coordinator over HTTP, for code that runs in an event loop."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final, Self, Unpack, overload
from urllib.parse import quote

import msgspec

from coordinator.client.batches import Batch, decode_answers, split
from coordinator.client.errors import WaitTimeout, error_of
from coordinator.client.requests import JobRequest, Options, job_requests, to_json
from coordinator.client.results import JobResult, decode_result
from coordinator.client.transport import DEFAULT_URL, Transport
from coordinator.core.errors import BacklogFull, CoordinatorError, InvalidInput, MemoryPressure, Refused

_ONE_WAIT: Final = 20.0
"""Seconds that one request for a result may be held; proxies cut longer ones off."""


class _Accepted(msgspec.Struct):
    request_id: str


_decode_accepted: Final = msgspec.json.Decoder(_Accepted).decode


class AsyncClient:
    """A producer's connection to the coordinator. Use it as `async with AsyncClient(url) as client`, or `close()` it.

    `timeout`: seconds that one answer may take. `patience`: seconds for which a refused or lost request is tried
    again before its error is raised. Every method may raise `Refused` (of which `Unreachable` is one) after that.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
    ) -> None:
        self._transport = Transport(url, timeout=timeout, patience=patience)

    async def submit(
        self,
        model: str,
        input: Any,  # noqa: A002 - the API's word for it
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> str:
        """Hand in one job and return its request id. `input` is anything that has a JSON form.

        With an `idempotency_key` of your own, the same submission from another process finds the first, for ten minutes at least.
        Raises `InvalidInput`, `UnknownModel`, `Conflict` (the key was used for something else), `Refused`.
        """
        body = to_json(JobRequest(model, input, **options))
        response = await self._transport.send("POST", "/inference", content=body, headers=_headers(idempotency_key))
        return _decode_accepted(response.body).request_id

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
        Jobs refused for now are tried again for as long as the client's patience lasts.
        """
        requests = job_requests(jobs, inputs, options)
        answers: list[str | CoordinatorError] = [InvalidInput("not submitted")] * len(requests)
        given_up: Refused | None = None
        for batch in split(requests, answers):
            if given_up is None:
                given_up = await self._submit_batch(batch, answers)
            else:
                for i in batch.indexes:
                    answers[i] = given_up
        return answers

    async def result(self, request_id: str, *, wait: float = 0.0) -> JobResult:
        """The job as it is; with `wait`, as soon as it is final or that many seconds have passed.

        Raises `NotFound`, `InvalidInput` (the coordinator has a longest wait).
        """
        return await self._result(request_id, wait, None)

    async def wait(self, request_id: str, *, timeout: float | None = None) -> JobResult:
        """The job once it is final, however long that takes, or up to `timeout` seconds.

        Raises `NotFound`, `WaitTimeout`.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = _ONE_WAIT if deadline is None else max(0.0, deadline - loop.time())
            result = await self._result(request_id, min(left, _ONE_WAIT), None if deadline is None else left)
            if result.final:
                return result
            if deadline is not None and loop.time() >= deadline:
                raise WaitTimeout(result, timeout or 0.0)

    async def cancel(self, request_id: str) -> None:
        """End a job wherever it is; a worker that runs it is told to stop. Cancelling twice is fine.

        Raises `NotFound`, `InvalidState` (it has another outcome already).
        """
        await self._transport.send("DELETE", f"/inference/{quote(request_id, safe='')}")

    async def map(
        self,
        model: str,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        window: int = 64,
        **options: Unpack[Options],
    ) -> AsyncGenerator[JobResult, None]:
        """Run `model` over `inputs`: results in the order of the inputs, never more than `window` jobs in flight.

        `inputs` may be endless: it is read only as far as the window allows. A job that fails is yielded as it is.
        """
        if window < 1:
            raise InvalidInput("The window must be at least 1.")

        async def run(value: Any) -> JobResult:
            return await self.wait(await self.submit(model, value, **options))

        flying: deque[asyncio.Task[JobResult]] = deque()
        try:
            async for value in _each(inputs):
                if len(flying) >= window:
                    yield await flying.popleft()
                flying.append(asyncio.create_task(run(value)))
            while flying:
                yield await flying.popleft()
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> bytes:
        """Any other endpoint: the body of the answer, or the error that its problem document stands for."""
        response = await self._transport.send(
            method, path, content=content, params=params, repeatable=repeatable, headers=_JSON if content else None
        )
        return response.body

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _result(self, request_id: str, wait: float, patience: float | None) -> JobResult:
        response = await self._transport.send(
            "GET",
            f"/result/{quote(request_id, safe='')}",
            params={"wait": f"{wait:.3f}"} if wait else None,
            held=max(0.0, wait),
            patience=patience,
        )
        return decode_result(response.body)

    async def _submit_batch(self, batch: Batch, answers: list[str | CoordinatorError]) -> Refused | None:
        """Submit one batch into `answers`. Returns why no more should be tried, if the patience is over."""
        deadline = asyncio.get_running_loop().time() + self._transport.patience
        key = _new_key()
        while True:
            try:
                response = await self._transport.send(
                    "POST", "/inference/batch", content=batch.body(), headers=_headers(key)
                )
            except CoordinatorError as error:
                for i in batch.indexes:
                    answers[i] = error
                return error if isinstance(error, Refused) else None
            refused: list[Refused] = []
            for i, answer in zip(batch.indexes, decode_answers(response.body), strict=True):
                if answer.problem is None:
                    answers[i] = answer.request_id
                else:
                    answers[i] = wrong = error_of(answer.problem, 0)
                    if isinstance(wrong, Refused):
                        refused.append(wrong)
            if not refused:
                return None
            pause = max(reason.retry_after for reason in refused)
            if asyncio.get_running_loop().time() + pause > deadline:
                return refused[-1]
            await asyncio.sleep(pause)
            if all(isinstance(reason, BacklogFull | MemoryPressure) for reason in refused):
                # What was refused was surely not accepted, so the rest need not be sent again, and a new key is safe.
                # Otherwise the same batch goes again under the same key, and what was accepted is found again.
                batch = batch.only(i for i in batch.indexes if isinstance(answers[i], Refused))
                key = _new_key()


_JSON: Final = {"Content-Type": "application/json"}


def _new_key() -> str:
    return os.urandom(16).hex()


def _headers(key: str | None) -> dict[str, str]:
    if key is None:
        key = _new_key()
    elif not (0 < len(key) <= 200 and key.isascii() and key.isprintable()):
        raise InvalidInput("An idempotency key has 1 to 200 printable ASCII characters.")
    return {**_JSON, "Idempotency-Key": key}


async def _each(values: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
