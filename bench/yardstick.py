"""What this machine can do right now: redis-benchmark's XADD, one at a time on 50 connections."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import cpu
from machine import server

_REQUESTS = 100_000


class Yardstick(NamedTuple):
    """XADD requests a second, and CPU us of Redis for each."""

    per_second: float
    redis_us: float


def program() -> str | None:
    """redis-benchmark: `REDIS_BENCHMARK`, on PATH, or beside the server; None if there is none."""
    beside = Path(server()).resolve().with_name("redis-benchmark")
    named = os.environ.get("REDIS_BENCHMARK") or shutil.which("redis-benchmark")
    return named or (str(beside) if beside.exists() else None)


def xadd(client: Any, port: int) -> Yardstick | None:
    """Measure, on a Redis that does nothing else; None where there is no redis-benchmark."""
    found = program()
    if found is None:
        return None
    command = [found, "-p", str(port), "-c", "50", "-n", str(_REQUESTS), "--csv", "XADD", "bench:xadd", "*", "job"]
    before = cpu.of_redis(client)
    done = subprocess.run([*command, "x" * 150], capture_output=True, text=True, check=True)
    used = cpu.of_redis(client) - before
    client.unlink("bench:xadd")
    # "XADD bench:xadd * job xxx…","56850.48","0.452",…: older versions tell the rate alone.
    per_second = done.stdout.splitlines()[-1].rsplit(" ", 1)[-1].split('","')[1].rstrip('"')
    return Yardstick(float(per_second), used / _REQUESTS * 1e6)
