"""The API on real Redis: called in this event loop, with the workers' side moved by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from harness.api import Serve, in_process
from harness.field import Field

from coordinator.api.app import Api
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings


@pytest.fixture
async def serve(settings: Settings) -> AsyncIterator[Serve]:
    """Starts the application with changed settings; it is stopped at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**changes: object) -> tuple[Api, httpx.AsyncClient]:
            return await stack.enter_async_context(in_process(settings.model_copy(update=changes)))

        yield start


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application as it is by default."""
    async with in_process(settings) as (_, client):
        yield client


@pytest.fixture
async def field(connections: Connections) -> Field:
    """The partition behind it, where the worker `w` is registered for the model `m`."""
    field = Field(connections.partitions[0])
    await field.register()
    return field
