"""`coordinator up`: a whole system that keeps itself going, and that Ctrl-C drains."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness.redis import RedisServer

from coordinator.client import AsyncClient

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(180)]

_PATIENCE = 60.0
_MODELS = Path(__file__).parent / "models"
_PIPE = asyncio.subprocess.PIPE


class Up:
    """A running `coordinator up --json`."""

    def __init__(self, process: asyncio.subprocess.Process, where: dict[str, Any]) -> None:
        self.process = process
        self.where = where
        self.url: str = where["apis"][0]

    async def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), _PATIENCE)


StartUp = Callable[..., Coroutine[Any, Any, Up]]


async def _run(*arguments: str) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "PYTHONPATH": str(_MODELS),
        "COORDINATOR_LEASE_SECONDS": "2",
        "COORDINATOR_HEARTBEAT_SECONDS": "0.5",
    }
    command = [sys.executable, "-m", "coordinator.cli", "up", *arguments]
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=_PIPE, stderr=_PIPE)


async def _fails(*arguments: str) -> tuple[int, str]:
    """Run an `up` that must not come up; its exit code and what it says."""
    process = await _run(*arguments)
    out, err = await asyncio.wait_for(process.communicate(), _PATIENCE)
    assert out == b""
    assert process.returncode is not None
    return process.returncode, err.decode().splitlines()[-1]


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[StartUp]:
    """Starts systems with their data in `tmp_path`."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str) -> Up:
        options = ("--port=0", "--worker=echo_model:worker", "--workers=2", "--dispatchers=1", f"--data={tmp_path}")
        process = await _run("--json", *options, *arguments)
        started.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE)
        if not line:
            assert process.stderr is not None
            pytest.fail((await process.stderr.read()).decode())
        return Up(process, orjson.loads(line))

    yield start
    for process in started:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), _PATIENCE)


async def test_it_runs_jobs_and_says_where_it_listens(up: StartUp) -> None:
    system = await up("--apis=2")
    assert set(system.where) == {"apis", "docs", "redis", "workers", "logs", "processes"}
    for url in system.where["apis"]:
        async with AsyncClient(url) as client:
            assert [r.value() async for r in client.map("echo", range(20))] == list(range(20))
    assert await system.interrupt() == 0
    for pid in system.where["processes"].values():
        assert not _runs(pid)


@pytest.mark.parametrize("part", ["worker-1", "dispatcher-1", "api-1", "redis"])
async def test_what_dies_comes_back_and_nothing_is_lost(up: StartUp, part: str, tmp_path: Path) -> None:
    system = await up()
    async with AsyncClient(system.url, patience=_PATIENCE) as client:
        held = [await client.submit("held", str(tmp_path)) for _ in range(4)]
        await _exists(tmp_path / "running")
        os.kill(system.where["processes"][part], signal.SIGKILL)
        (tmp_path / "go").touch()
        for request_id in held:
            assert (await client.wait(request_id, timeout=_PATIENCE)).value() == "held"
        assert [r.value() async for r in client.map("echo", range(20))] == list(range(20))
    assert system.process.returncode is None


async def test_ctrl_c_lets_running_jobs_finish_and_keeps_their_results(up: StartUp, tmp_path: Path) -> None:
    system = await up()
    async with AsyncClient(system.url) as client:
        request_id = await client.submit("held", str(tmp_path))
        await _exists(tmp_path / "running")
    system.process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(system.process.wait(), _PATIENCE) == 0
    again = await up()
    async with AsyncClient(again.url) as client:
        result = await client.result(request_id)
    assert (result.value(), result.attempts) == ("held", 1)


async def test_two_systems_do_not_share_a_data_folder(up: StartUp, tmp_path: Path) -> None:
    await up()
    code, said = await _fails("--port=0", f"--data={tmp_path}")
    assert code == 2
    assert "running in" in said
    assert "--data" in said


async def test_on_a_redis_that_is_there(up: StartUp, redis_server: RedisServer) -> None:
    url = redis_server.url(12)
    system = await up(f"--redis={url}", "--workers=1")
    assert system.where["redis"] == url
    assert "redis" not in system.where["processes"]
    async with AsyncClient(system.url) as client:
        assert [r.value() async for r in client.map("echo", range(5))] == list(range(5))
    assert await system.interrupt() == 0


async def test_no_redis_where_it_is_said_to_be(free_port: int, tmp_path: Path) -> None:
    code, said = await _fails("--port=0", f"--data={tmp_path}", f"--redis=redis://127.0.0.1:{free_port}")
    assert code == 1
    assert "Redis is not available" in said


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = await _fails(f"--port={port}", f"--data={tmp_path}")
    assert code == 2
    assert str(port) in said
    assert "--port" in said


async def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    code, said = await _fails("--port=0", f"--data={tmp_path}", "--workers=1", "--worker=no_such_module:worker")
    assert code == 1
    assert "no_such_module" in said


async def _exists(path: Path) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not path.exists():
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
