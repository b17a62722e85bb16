"""What all tests share: a real Redis, and the core opened on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from harness.redis import RedisServer

from coordinator.core.connection import Connections
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--campaign-seconds", default="40", help="for how long a campaign injects faults")
    group.addoption("--campaign-seed", default=None, help="what decides its faults and jobs; default: a new one")
    group.addoption("--campaign-faults", default=None, help="only these, separated by commas; default: all")


def pytest_configure() -> None:
    """No setting of the developer's own shell may decide how a test ends."""
    for name in [name for name in os.environ if name.startswith("COORDINATOR_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _plain_logging() -> Iterator[None]:
    """A test that captures logs configures them; the next one begins as a program of somebody else's does."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The server that tests share. Each uses database 0 as its own (`redis_url`), and changes no server setting."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    _start(server)
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of the test's own, with an append-only file, to be configured, killed, paused and restarted."""
    server = RedisServer(tmp_path_factory.mktemp("own-redis"), aof=True)
    _start(server)
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database on the shared server."""
    with redis_server.client() as client:
        client.flushdb()
        client.script_flush()
    return redis_server.url()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(redis_url=redis_url)


@pytest.fixture
async def connections(settings: Settings) -> AsyncIterator[Connections]:
    async with await Connections.open(settings, client_name="tests") as connections:
        yield connections


def _start(server: RedisServer) -> None:
    try:
        server.start()
    except (ImportError, FileNotFoundError, Misconfigured) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"There is no redis-server here: {error}")
