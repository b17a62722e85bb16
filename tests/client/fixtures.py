"""A real API process, and a worker moved by hand. Each test has a model of its own, so all share one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from client.hand import Hand
from harness.redis import RedisServer

from coordinator.client import AsyncClient, Producer
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings

_DATABASE = 11
_START_SECONDS = 30.0

StartApi = Callable[..., "Api"]


class Api:
    """An API process on a port of its own. `start` it again after `kill`."""

    def __init__(self, redis_url: str, log: Path, **settings: object) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._environment = {
            **os.environ,
            "COORDINATOR_REDIS_URL": redis_url,
            **{f"COORDINATOR_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "coordinator.api", f"--port={self.port}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    async def ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(_START_SECONDS), AsyncClient(self.url, patience=_START_SECONDS) as client:
            await client.request("GET", "/readyz")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_START_SECONDS)


@pytest.fixture(scope="session")
def shared_redis_url(redis_server: RedisServer) -> str:
    return redis_server.url(_DATABASE)


@pytest.fixture(scope="session")
def shared_api(shared_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api(shared_redis_url, tmp_path_factory.mktemp("api") / "api.log")
    yield api
    api.stop()


@pytest.fixture
async def api(shared_api: Api) -> Api:
    """An API process that all tests share; see that it is ready."""
    await shared_api.ready()
    return shared_api


@pytest.fixture
def start_api(shared_redis_url: str, tmp_path: Path) -> Iterator[StartApi]:
    """Starts API processes of the test's own, with other settings."""
    with contextlib.ExitStack() as stack:

        def start(redis_url: str = shared_redis_url, **settings: object) -> Api:
            api = Api(redis_url, tmp_path / "api.log", **settings)
            stack.callback(api.stop)
            return api

        yield start


@pytest.fixture
async def client(api: Api) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(api.url, patience=5.0) as client:
        yield client


@pytest.fixture
async def connections(shared_redis_url: str) -> AsyncIterator[Connections]:
    async with await Connections.open(Settings(redis_url=shared_redis_url), client_name="tests") as connections:
        yield connections


@pytest.fixture
async def producer(shared_redis_url: str) -> AsyncIterator[Producer]:
    async with Producer.open(shared_redis_url) as producer:
        yield producer


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name that no other test uses."""
    return f"m-{abs(hash(request.node.nodeid))}"


@pytest.fixture
async def hand(connections: Connections, model: str) -> Hand:
    """A worker of the test's model."""
    worker = Hand(connections, model, name=f"hand-of-{model}")
    await worker.register()
    return worker


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
