"""`coordinator demo` keeps its promise: a worker dies in the middle, and no job is lost."""

from __future__ import annotations

import asyncio
import sys

import orjson
import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(180)]

KEYS = {
    "accepted",
    "succeeded",
    "failed",
    "lost",
    "retried",
    "accuracy",
    "per_worker",
    "seconds",
    "jobs_per_second",
    "latency_ms",
}


async def test_the_demonstration() -> None:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "coordinator.cli", "demo", "--json"]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    figures = orjson.loads(out)
    assert set(figures) == KEYS
    assert (figures["accepted"], figures["succeeded"], figures["failed"], figures["lost"]) == (1797, 1797, 0, 0)
    assert figures["retried"] > 0
    assert figures["accuracy"] > 0.9
    assert len(figures["per_worker"]) == 3
    assert sum(figures["per_worker"].values()) == 1797
    assert set(figures["latency_ms"]) == {"p50", "p99"}
