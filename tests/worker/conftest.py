"""A worker runtime inside the test, on real Redis, with a real dispatcher beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from harness.stage import Stage

from coordinator.core.connection import Connections
from coordinator.core.duty import stop
from coordinator.core.settings import Settings
from coordinator.dispatcher.main import dispatch


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """Times so short that a test can see them pass."""
    return Settings(
        redis_url=redis_url,
        lease_seconds=2.0,
        heartbeat_seconds=0.2,
        backoff_base=0.01,
        backoff_cap=0.05,
        overdue_grace=0.3,
        drain_seconds=10.0,
    )


@pytest.fixture
async def stage(settings: Settings, connections: Connections) -> AsyncIterator[Stage]:
    stage = Stage(connections, settings)
    tasks = [asyncio.create_task(stage.waiting.run()), asyncio.create_task(dispatch(settings))]
    yield stage
    await stop(tasks)
    await stage.field.census()
