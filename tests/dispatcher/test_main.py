"""The whole dispatcher, and its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.field import Field, until

from coordinator.core import keys
from coordinator.core.settings import Settings
from coordinator.dispatcher.main import dispatch

START_SECONDS = 30.0


async def test_all_duties_do_their_part(field: Field, settings: Settings) -> None:
    """A job that is delayed, assigned, fails, waits, is tried again; then its worker is lost."""
    await field.register()
    task = asyncio.create_task(dispatch(settings))
    request_id = await field.put(delay=10)
    await until(lambda: field.inbox())
    (job,) = await field.take()
    assert await field.fail_one(job, delay_ms=10) == "retrying"
    await until(lambda: field.inbox())
    (again,) = await field.take()
    assert (again.request_id, again.attempt) == (request_id, 2)
    assert await field.complete(again.done()) == [1]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "dispatcher.log"


def _start(log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "coordinator.dispatcher"],
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
        )


async def test_the_process_ends_in_order_when_it_is_told_to(field: Field, redis_url: str, log: Path) -> None:
    process = _start(log, COORDINATOR_REDIS_URL=redis_url)
    try:
        await field.register()
        await field.put()
        await until(lambda: field.inbox(), START_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, START_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert b"stopped" in log.read_bytes()


async def test_the_process_says_so_when_it_can_not_go_on(field: Field, redis_url: str, log: Path) -> None:
    await field.redis.hset(keys.META, "schema", "99")
    process = _start(log, COORDINATOR_REDIS_URL=redis_url)
    try:
        assert await asyncio.to_thread(process.wait, START_SECONDS) == 2
    finally:
        process.kill()
        process.wait()
    assert b"schema 99" in log.read_bytes()
