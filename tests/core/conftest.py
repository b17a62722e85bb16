"""A partition on real Redis, and for the happy path the same partition on fakeredis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
import redis.asyncio
from harness.field import Field

from coordinator.core.connection import Connections, Partition
from coordinator.core.settings import Settings


class _Fake:
    """Redis inside this process: quick, and true enough for the steps' happy path.

    What it can't do is tested on real Redis only: memory limits, eviction of a blocked reader, lost connections, and the
    exact errors of a missing group.
    """

    def __init__(self) -> None:
        self._server = fakeredis.FakeServer(version=(7, 0))

    def client(self, key: str, name: str, timeout: float | None) -> redis.asyncio.Redis:
        client: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(server=self._server, protocol=2)
        callbacks: Any = client.response_callbacks
        callbacks["XREADGROUP"] = lambda reply, **_: reply
        pool: Any = client.connection_pool
        pool.call = client.execute_command
        return client

    async def master(self, linger: float) -> None:
        return None


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Patient ones: a busy machine is no reason to fail."""
    return Settings(redis_url=redis_url, redis_patience=20)


@pytest.fixture(params=["fakeredis", "redis"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Field]:
    """A partition on fakeredis, and then the same test on real Redis. Afterwards each job must be in one place."""
    if request.param == "redis":
        settings: Settings = request.getfixturevalue("settings")
        connections = await Connections.open(settings, client_name="tests")
    else:
        connections = Connections([Partition(0, _Fake(), client_name="tests")])
    async with connections:
        field = Field(connections.partitions[0])
        yield field
        await field.census()


@pytest.fixture
async def field(connections: Connections) -> AsyncIterator[Field]:
    """A partition on real Redis. Afterwards each job must be in one place."""
    field = Field(connections.partitions[0])
    yield field
    await field.census()
