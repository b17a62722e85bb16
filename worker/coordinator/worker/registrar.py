"""Registering: how a worker finds out where its work is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import httpx
import msgspec

from coordinator.core.errors import InvalidInput, Refused
from coordinator.worker.handlers import Handler
from coordinator.worker.policy import Registered

_TIMEOUT: Final = 10.0
_PASSING: Final = (408, 425, 429)


class Registrar(Protocol):
    """Enters a worker. Raises `Refused` when it may be tried again, `InvalidInput` when that is no use."""

    async def register(
        self,
        handlers: Mapping[str, Handler],
        metadata: Mapping[str, Any],
        *,
        worker_id: str | None,
        incarnation: str | None,
    ) -> Registered: ...


class _Offer(msgspec.Struct, omit_defaults=True):
    capacity: int
    window: int
    version: str | None = None
    timeout_seconds: float | None = None


class _Request(msgspec.Struct, omit_defaults=True):
    models: dict[str, _Offer]
    metadata: dict[str, Any]
    worker_id: str | None = None
    incarnation: str | None = None


class _Problem(msgspec.Struct):
    detail: str = ""
    title: str = ""
    retry_after: float | None = None


class HttpRegistrar:
    """Registers by `POST /register` of a coordinator's API."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"The coordinator's address is a URL such as http://127.0.0.1:8000, not '{url}'.")
        self._url = url.rstrip("/")

    async def register(
        self,
        handlers: Mapping[str, Handler],
        metadata: Mapping[str, Any],
        *,
        worker_id: str | None,
        incarnation: str | None,
    ) -> Registered:
        offers = {
            model: _Offer(handler.slots, handler.window, handler.version, handler.timeout)
            for model, handler in handlers.items()
        }
        body = msgspec.json.encode(_Request(offers, dict(metadata), worker_id, incarnation))
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT) as client:
                answer = await client.post(
                    f"{self._url}/register", content=body, headers={"content-type": "application/json"}
                )
        except httpx.InvalidURL as error:
            raise InvalidInput(f"The coordinator's address '{self._url}' is not a URL: {error}.") from error
        except httpx.HTTPError as error:
            raise Refused(
                f"The coordinator at {self._url} does not answer: {error or type(error).__name__}."
            ) from error
        if answer.status_code == 201:
            try:
                return msgspec.json.decode(answer.content, type=Registered)
            except msgspec.DecodeError as error:
                raise InvalidInput(
                    f"What answers at {self._url} is not a coordinator that we know: {error}."
                ) from error
        try:
            problem = msgspec.json.decode(answer.content, type=_Problem)
        except msgspec.DecodeError:
            problem = _Problem()
        said = problem.detail or problem.title or f"status {answer.status_code}"
        if answer.status_code >= 500 or answer.status_code in _PASSING:
            raise Refused(
                f"The coordinator at {self._url} does not register us now: {said}", problem.retry_after or 1.0
            )
        raise InvalidInput(f"The coordinator at {self._url} does not register this worker: {said}")
