"""Worker processes as they are started in production, registering over HTTP at a real API process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness.stage import SECONDS, Stage, until

from coordinator.core import keys
from coordinator.core.errors import InvalidInput, Misconfigured, Refused
from coordinator.core.settings import Settings
from coordinator.worker import Worker
from coordinator.worker.loading import load
from coordinator.worker.main import STUCK, SUPERSEDED
from coordinator.worker.registrar import HttpRegistrar
from coordinator.worker.runtime import Runtime

MODULE = """
import logging, os, sys, time
from pathlib import Path
import structlog
from coordinator.worker import Worker, job

worker = Worker({"device": "test"})
empty = Worker()
number = 7

@worker.startup
def load():
    Path("started").touch()

@worker.shutdown
async def unload():
    Path("ended").touch()

@worker.model("m", capacity=2, timeout=60)
def handler(value):
    logging.getLogger("handlers").warning("stdlib says %s", value)
    structlog.get_logger().info("structlog says it too")
    if value == "die":
        os._exit(9)
    if value == "hang":
        Path("hangs").touch()
        while not Path("release").exists():
            time.sleep(0.01)
    return [value, job.attempt, os.getpid()]

@worker.model("stuck", capacity=1, timeout=0.05)
def stuck(value):
    time.sleep(600)
"""

Start = Callable[..., Coroutine[Any, Any, asyncio.subprocess.Process]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_module.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[str]:
    """The URL of an API process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coordinator.api", "--port", "0"),
        env=_environment(settings),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    url = ""
    async with asyncio.timeout(SECONDS):
        while not url:
            line = await process.stderr.readline()
            assert line, "the API ended"
            if b'"listening"' in line:
                url = orjson.loads(line)["url"]
    yield url
    process.terminate()
    await process.communicate()


@pytest.fixture
async def start(settings: Settings, folder: Path, api: str) -> AsyncIterator[Start]:
    """Starts worker processes in `folder`."""
    started = []

    async def begin(target: str = "my_module:worker", *options: str) -> asyncio.subprocess.Process:
        with (folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "coordinator.worker", target, "--coordinator", api, *options),
                cwd=folder,
                env=_environment(settings),
                stderr=log,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    names = ("redis_url", "lease_seconds", "heartbeat_seconds", "backoff_base", "backoff_cap", "overdue_grace")
    told = {f"COORDINATOR_{name.upper()}": str(getattr(settings, name)) for name in names}
    return {**os.environ, **told, "COORDINATOR_LOG_FORMAT": "json"}


async def test_it_serves_and_on_sigterm_finishes_and_signs_off(stage: Stage, start: Start, folder: Path) -> None:
    process = await start("my_module:worker", "--worker-id", "w")
    await _registered(stage)
    assert (folder / "started").exists()
    value, attempt, pid = await stage.run("m", "hello")
    assert (value, attempt, pid) == ("hello", 1, process.pid)
    hanging = await stage.submit("m", "hang")
    await until((folder / "hangs").exists)
    process.terminate()
    await _log_says(folder, "drains")
    (folder / "release").touch()
    assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    assert (await stage.output(hanging))[1] == 1
    assert (folder / "ended").exists()
    assert not await stage.field.redis.exists(keys.worker(0, "w"))


async def test_logs_of_handlers_say_which_job(stage: Stage, start: Start, folder: Path) -> None:
    await start("my_module:worker", "--worker-id", "w")
    await _registered(stage)
    request_id = await stage.submit("m", 1)
    await stage.output(request_id)
    lines = [orjson.loads(line) for line in (folder / "log").read_bytes().splitlines()]
    events = {line["event"]: line for line in lines if line.get("request_id") == request_id}
    assert events["stdlib says 1"]["logger"] == "handlers"
    assert events["stdlib says 1"]["attempt"] == 1
    assert "structlog says it too" in events


async def test_a_second_sigterm_ends_it_at_once(stage: Stage, start: Start, folder: Path) -> None:
    process = await start("my_module:worker", "--worker-id", "w", "--grace", "600")
    await _registered(stage)
    hanging = await stage.submit("m", "hang")
    await until((folder / "hangs").exists)
    process.terminate()
    await _log_says(folder, "drains")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    assert (await stage.waiting.result(hanging)).status == "queued"


async def test_a_worker_that_dies_costs_its_job_an_attempt_and_nothing_else(stage: Stage, start: Start) -> None:
    process = await start("my_module:worker", "--worker-id", "w1")
    await _registered(stage, "w1")
    deadly = await stage.submit("m", "die")
    assert await asyncio.wait_for(process.wait(), SECONDS) == 9
    good = await stage.submit("m", "good")
    for i in (2, 3):
        other = await start("my_module:worker", "--worker-id", f"w{i}")
        await asyncio.wait_for(other.wait(), SECONDS)
    result = await stage.result(deadly)
    assert result.error is not None
    assert result.error.type == "poison"
    assert result.crashed_workers == ["w1", "w2", "w3"]
    await start("my_module:worker", "--worker-id", "w4")
    assert (await stage.output(good))[:2] == ["good", 1]


async def test_a_stopped_worker_loses_its_lease_and_can_not_hurt_when_it_is_back(
    stage: Stage, start: Start, folder: Path
) -> None:
    paused = await start("my_module:worker", "--worker-id", "w1")
    await _registered(stage, "w1")
    request_id = await stage.submit("m", "hang")
    await until((folder / "hangs").exists)
    paused.send_signal(signal.SIGSTOP)
    other = await start("my_module:worker", "--worker-id", "w2")
    (folder / "release").touch()
    value, attempt, pid = await stage.output(request_id)
    assert (attempt, pid) == (2, other.pid)
    paused.send_signal(signal.SIGCONT)
    await _log_says(folder, "refused as stale", "was taken away")
    await _registered(stage, "w1")
    assert (await stage.output(request_id)) == [value, attempt, pid]


async def test_another_process_with_the_same_id_ends_the_first(stage: Stage, start: Start) -> None:
    first = await start("my_module:worker", "--worker-id", "w")
    await _registered(stage)
    second = await start("my_module:worker", "--worker-id", "w")
    assert await asyncio.wait_for(first.wait(), SECONDS) == SUPERSEDED
    assert (await stage.run("m", 1))[2] == second.pid


async def test_handlers_that_never_return_end_the_process(stage: Stage, start: Start) -> None:
    process = await start("my_module:worker", "--worker-id", "w")
    await _registered(stage)
    ids = await stage.submit_many("stuck", [1, 2, 3])
    assert await asyncio.wait_for(process.wait(), SECONDS) == STUCK
    for request_id in ids:
        assert (await stage.waiting.result(request_id)).status != "succeeded"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("my_module", "module:attribute"),
        (":worker", "module:attribute"),
        ("no_such_module:worker", "no module 'no_such_module'"),
        ("my_module:nothing", "no 'nothing'"),
        ("my_module:number", "int, not a Worker"),
        ("my_module:empty", "serves no model"),
        ("..:worker", "not a module's name"),
    ],
)
def test_targets_that_are_no_workers(target: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(InvalidInput, match=said):
        load(target)


def test_a_module_s_own_missing_imports_are_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "imports_nothing.py").write_text("import surely_not_installed")
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        load("imports_nothing:worker")


async def test_trouble_is_one_line_and_an_exit_code(start: Start, folder: Path) -> None:
    process = await start("no_such_module:worker")
    assert await asyncio.wait_for(process.wait(), SECONDS) == 2
    assert (folder / "log").read_text().splitlines() == [
        "coordinator.worker: There is no module 'no_such_module' (looked for 'no_such_module:worker')."
    ]


async def test_a_worker_id_that_can_not_be_is_refused(start: Start, folder: Path) -> None:
    process = await start("my_module:worker", "--worker-id", "a b")
    assert await asyncio.wait_for(process.wait(), SECONDS) == 2
    assert "does not register this worker" in (folder / "log").read_text().splitlines()[-1]


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not 'localhost:8000'"):
        HttpRegistrar("localhost:8000")


async def test_a_coordinator_that_is_away_may_be_asked_again(unused_tcp_port: int) -> None:
    with pytest.raises(Refused, match="does not answer"):
        await HttpRegistrar(f"http://127.0.0.1:{unused_tcp_port}").register({}, {}, worker_id=None, incarnation=None)


async def test_an_http_server_that_is_no_coordinator_is_refused(api: str) -> None:
    with pytest.raises(InvalidInput, match="does not register this worker"):
        await HttpRegistrar(f"{api}/elsewhere").register({}, {}, worker_id=None, incarnation=None)


async def test_stopped_before_it_is_registered_it_just_ends(settings: Settings, unused_tcp_port: int) -> None:
    worker = Worker()
    worker.model("m")(lambda value: value)
    runtime = Runtime(worker, HttpRegistrar(f"http://127.0.0.1:{unused_tcp_port}"), settings)
    task = asyncio.create_task(runtime.run())
    await asyncio.sleep(0)
    runtime.stop()
    await asyncio.wait_for(task, SECONDS)


async def test_another_redis_than_the_coordinator_s_is_noticed(stage: Stage, own_redis: Any) -> None:
    worker = Worker()
    worker.model("m")(lambda value: value)
    runtime = Runtime(worker, stage.registrar, Settings(redis_url=own_redis.url()))
    with pytest.raises(Misconfigured, match="another Redis"):
        await runtime.run()


async def _registered(stage: Stage, worker: str = "w") -> None:
    async with asyncio.timeout(SECONDS):
        while not await stage.field.redis.hexists(keys.serving(0, "m"), worker):
            await asyncio.sleep(0.01)


async def _log_says(folder: Path, *texts: str) -> None:
    await until(lambda: any(text in (folder / "log").read_text() for text in texts))
