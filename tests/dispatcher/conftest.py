"""A partition on real Redis, a clock that stands still, and settings with round numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from harness.clock import ManualClock
from harness.field import Field

from coordinator.core.connection import Connections
from coordinator.core.settings import Settings


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(redis_url=redis_url, redis_patience=20, lease_seconds=8.0, heartbeat_seconds=2.0)


@pytest.fixture
async def field(connections: Connections) -> AsyncIterator[Field]:
    """A partition on real Redis. Afterwards each job must be in one place."""
    field = Field(connections.partitions[0])
    yield field
    await field.census()
