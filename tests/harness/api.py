"""The API inside the test's own event loop, and as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx

from coordinator.api.app import Api, create_app
from coordinator.core.settings import Settings

_SECONDS = 30.0
Serve = Callable[..., Awaitable[tuple[Api, httpx.AsyncClient]]]
"""Starts the application with changed settings."""


@contextlib.asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[tuple[Api, httpx.AsyncClient]]:
    """The application, started, and a client that calls it without a socket between them."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client,
    ):
        yield app, client


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem document that the response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["type"], document["status"]) == (f"/problems/{kind}", status)
    assert document["title"]
    assert document["detail"]
    if status == 503 and kind != "misconfigured":
        assert int(response.headers["retry-after"]) >= 1
    return document


class ApiProcess:
    """`python -m coordinator.api` on a free port. `log` has the lines that it wrote, each a JSON document."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self.url = ""
        self._listening = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, settings: Mapping[str, object]) -> ApiProcess:
        """Start one, with settings by their names; it may not have come up yet."""
        environment = {f"COORDINATOR_{name.upper()}": str(value) for name, value in settings.items()}
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "coordinator.api", "--port", "0"),
                env={**os.environ, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def listening(self) -> str:
        """Its URL, once it listens."""
        async with asyncio.timeout(_SECONDS):
            await self._listening.wait()
        assert self.url, self.log
        return self.url

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        async with asyncio.timeout(_SECONDS):
            await self._reader
            return await self.process.wait()

    async def stop(self) -> int:
        """Ask it to stop; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.ended()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        try:
            async for line in self.process.stderr:
                self.log.append(json.loads(line))
                if self.log[-1]["event"] == "listening":
                    self.url = self.log[-1]["url"]
                    self._listening.set()
        finally:
            self._listening.set()


@contextlib.asynccontextmanager
async def api_process(**settings: object) -> AsyncIterator[ApiProcess]:
    """An API process, killed at the end if it is still there."""
    api = await ApiProcess.start({"log_format": "json", **settings})
    try:
        yield api
    finally:
        await api.close()
