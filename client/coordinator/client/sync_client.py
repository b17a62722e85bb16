"""The coordinator over HTTP, for code without an event loop: `AsyncClient`, run in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, Unpack, overload

from coordinator.client.async_client import AsyncClient
from coordinator.client.loop_thread import LoopThread
from coordinator.client.requests import JobRequest, Options
from coordinator.client.results import JobResult
from coordinator.client.transport import DEFAULT_URL
from coordinator.core.errors import CoordinatorError


class Client:
    """Like `AsyncClient`, method by method; safe for any number of threads. `with Client(url) as client`, or `close()` it."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
    ) -> None:
        self._client = AsyncClient(url, timeout=timeout, patience=patience)
        self._loop = LoopThread()

    def submit(
        self,
        model: str,
        input: Any,  # noqa: A002 - the API's word for it
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> str:
        """See `AsyncClient.submit`."""
        return self._loop.run(self._client.submit(model, input, idempotency_key=idempotency_key, **options))

    @overload
    def submit_many(
        self, jobs: str, inputs: Iterable[Any], **options: Unpack[Options]
    ) -> list[str | CoordinatorError]: ...
    @overload
    def submit_many(self, jobs: Iterable[JobRequest]) -> list[str | CoordinatorError]: ...
    def submit_many(self, jobs: Any, inputs: Any = None, **options: Any) -> list[str | CoordinatorError]:
        """See `AsyncClient.submit_many`."""
        return self._loop.run(self._client.submit_many(jobs, inputs, **options))

    def result(self, request_id: str, *, wait: float = 0.0) -> JobResult:
        """See `AsyncClient.result`."""
        return self._loop.run(self._client.result(request_id, wait=wait))

    def wait(self, request_id: str, *, timeout: float | None = None) -> JobResult:
        """See `AsyncClient.wait`."""
        return self._loop.run(self._client.wait(request_id, timeout=timeout))

    def cancel(self, request_id: str) -> None:
        """See `AsyncClient.cancel`."""
        self._loop.run(self._client.cancel(request_id))

    def map(
        self, model: str, inputs: Iterable[Any], *, window: int = 64, **options: Unpack[Options]
    ) -> Iterator[JobResult]:
        """See `AsyncClient.map`."""
        results = self._client.map(model, inputs, window=window, **options)

        async def following() -> JobResult | None:
            return await anext(results, None)

        async def end() -> None:
            await results.aclose()

        try:
            while (result := self._loop.run(following())) is not None:
                yield result
        finally:
            self._loop.run(end())

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> bytes:
        """See `AsyncClient.request`."""
        return self._loop.run(self._client.request(method, path, content=content, params=params, repeatable=repeatable))

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
