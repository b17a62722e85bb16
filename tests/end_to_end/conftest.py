"""One running system for each module: an API, a dispatcher and two workers, on a Redis of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from harness.redis import RedisServer
from harness.system import SECONDS, ApiDaemon, System, joined

from coordinator.client import AsyncClient


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), aof=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def running(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system"), server.url()) as system:
        api = system.api()
        system.dispatcher()
        for name in ("w1", "w2"):
            system.worker(name, api.url)
        yield system


@pytest.fixture
async def system(running: System) -> System:
    """The module's system, with all its processes up; a test leaves it as it found it."""
    async with _api(running).client() as client:
        await joined(client, "w1", "w2")
        while not {"w1", "w2"} <= {execution.worker for execution in running.executions()}:
            # Registered is not all: each has also begun to work.
            await client.wait(await client.submit("play", {}), timeout=SECONDS)
    return running


@pytest.fixture
async def client(system: System) -> AsyncIterator[AsyncClient]:
    async with _api(system).client() as client:
        yield client


def _api(system: System) -> ApiDaemon:
    api = system.daemons["api"]
    assert isinstance(api, ApiDaemon)
    return api


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the processes said."""
    report = yield
    system = getattr(item, "funcargs", {}).get("system")
    if report.failed and isinstance(system, System):
        for name, daemon in system.daemons.items():
            report.sections.append((f"end of the log of {name}", daemon.tail()))
    return report
