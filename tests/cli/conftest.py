"""The command line's tests run it as people do, against the API process and the hand-moved worker of the client's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from client.fixtures import Api, api, connections, free_port, hand, model, shared_api, shared_redis_url

from coordinator.cli.main import main

__all__ = ["api", "connections", "free_port", "hand", "model", "shared_api", "shared_redis_url"]


@dataclass(frozen=True)
class Run:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, as the one JSON document that it must be."""
        return orjson.loads(self.out)


Cli = Callable[..., Coroutine[Any, Any, Run]]


@pytest.fixture
def cli(api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command against the API process."""
    monkeypatch.setenv("COORDINATOR_URL", api.url)

    async def run(*arguments: str) -> Run:
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return run
