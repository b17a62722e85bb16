"""A deployment to be measured: real processes on the loopback, and what CPU each of them used."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import redis

from coordinator.core.embedded import server_binary

HERE: Final = Path(__file__).parent
_TICK: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def until(holds: Any, what: str, seconds: float = _START_SECONDS, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: not within {seconds:g} s: {what}")
        time.sleep(pause)


class Machine:
    """Redis, and whatever else is started on it. Everything ends with `close`."""

    def __init__(self, *, aof: bool = False) -> None:
        self.folder = tempfile.mkdtemp(prefix="coordinator-bench-")
        self._log = Path(self.folder, "log").open("ab")  # noqa: SIM115 - closed by close()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = [os.environ.get("REDIS_SERVER") or server_binary(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", self.folder, "--save", "", "--appendonly", "yes" if aof else "no"]
        self._start("redis", command)
        self.redis: Any = redis.Redis(port=self.port, socket_timeout=60)
        until(self._answers, "Redis answers")
        self.api_port = free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def _start(self, name: str, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        settings = {"COORDINATOR_REDIS_URL": self.url, "COORDINATOR_LOG_LEVEL": "warning", **environment}
        self._processes[name] = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        return self._processes[name]

    def start(self, name: str, *arguments: str, **environment: str) -> None:
        """Run `python arguments` as the process `name`."""
        self._start(name, [sys.executable, *arguments], **environment)

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
        until(lambda: self.redis.zcard("coord:{0}:workers"), "the worker is registered")

    def tool(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A load generator: what it prints on stdout is its result."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=HERE,
            env={**os.environ, "COORDINATOR_REDIS_URL": self.url},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def stop(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu(self) -> dict[str, float]:
        """CPU seconds by process so far."""
        return {name: cpu_of(process.pid) for name, process in self._processes.items()}

    def outstanding(self) -> int:
        """Jobs in lanes and inboxes."""
        pipe = self.redis.pipeline(transaction=False)
        streams = [
            key for kind in ("jobs", "inbox") for key in self.redis.scan_iter(f"coord:[{{]0[}}]:{kind}:*", count=1000)
        ]
        for stream in streams:
            pipe.xlen(stream)
        return sum(pipe.execute())

    def slowest_ms(self) -> float:
        """The longest script call that the slow log holds, in ms."""
        calls = [row["duration"] for row in self.redis.slowlog_get(1000) if row["command"].startswith(b"EVALSHA")]
        return max(calls, default=0) / 1000

    def close(self) -> None:
        for name in [name for name in self._processes if name != "redis"]:
            self.stop(name)
        self.redis.close()
        self.stop("redis")
        self._log.close()
        if os.environ.get("BENCH_KEEP"):
            print(f"log: {self.folder}/log", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def machine(*, aof: bool = False) -> Iterator[Machine]:
    made = Machine(aof=aof)
    try:
        yield made
    finally:
        made.close()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def redis_benchmark(port: int) -> float | None:
    """XADD by redis-benchmark, 50 clients, no pipelining, in requests/s; None where there is no such program."""
    beside = Path(os.environ.get("REDIS_SERVER") or server_binary()).with_name("redis-benchmark")
    program = (
        os.environ.get("REDIS_BENCHMARK")
        or shutil.which("redis-benchmark")
        or (str(beside) if beside.exists() else None)
    )
    if program is None:
        return None
    command = [
        program,
        "-p",
        str(port),
        "-c",
        "50",
        "-n",
        "100000",
        "--csv",
        "XADD",
        "bench:xadd",
        "*",
        "job",
        "x" * 150,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with redis.Redis(port=port) as client:
        client.unlink("bench:xadd")
    return float(done.stdout.splitlines()[-1].rpartition('","')[0].split('","')[1])
