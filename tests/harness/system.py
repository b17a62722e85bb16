"""The whole system as real processes, each of which a test may kill, stop, continue and start again by its name."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from coordinator.client import AsyncClient
from coordinator.core.errors import CoordinatorError

TESTS: Final = Path(__file__).parents[1]
PLAYER: Final = "harness.models.plays:worker"
SECONDS: Final = 60.0
"""After so long a test gives up waiting."""
SHORT: Final[dict[str, Any]] = {
    "lease_seconds": 3.0,
    "heartbeat_seconds": 0.5,
    "overdue_grace": 0.5,
    "backoff_base": 0.1,
    "backoff_cap": 0.5,
    "drain_seconds": 5.0,
    "log_format": "json",
}
"""Settings with which things happen soon."""
_TAIL: Final = 3000


class Execution(msgspec.Struct, omit_defaults=True):
    """What a handler noted: that a job was started, or how that run ended."""

    at: float
    """Monotonic seconds of this machine."""
    event: str
    """start, done, raised."""
    id: str
    attempt: int
    worker: str
    pid: int
    token: str
    """Names the run."""
    n: int = 0
    """The number that the producer gave to its submission."""


class Daemon:
    """One process that goes on until it is ended. Its output goes to a file."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.environment = environment
        self.log = log
        self.starts = 0
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def twin(self, log: Path) -> Daemon:
        """The same once more, not started yet."""
        return Daemon(f"{self.name}-twin", self._command, self.environment, log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it ended; None while it runs, or before its first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, or start it again."""
        assert not self.alive, f"{self.name} runs"
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            assert self._process is not None
            self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    async def ended(self, seconds: float = SECONDS) -> int:
        """Its exit code, once it has ended."""
        await until(lambda: not self.alive, f"{self.name} has ended", seconds)
        assert self.code is not None
        return self.code

    async def stop(self) -> int:
        """Ask it to end (SIGTERM), and wait until it has. Its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def said(self, what: str) -> int:
        """How many lines of its output contain `what`."""
        return sum(what in line for line in self.log.read_text(errors="replace").splitlines())

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-_TAIL:] if self.log.exists() else ""


class ApiDaemon(Daemon):
    """An API process on a port that it keeps."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = (sys.executable, "-m", "coordinator.api", f"--port={self.port}")
        super().__init__(name, command, environment, log)

    def client(self, *, patience: float = SECONDS, timeout: float = 5.0) -> AsyncClient:
        """A producer's client of this process; the caller closes it."""
        return AsyncClient(self.url, timeout=timeout, patience=patience)

    async def ready(self) -> None:
        """Wait until it has its Redis."""
        async with self.client() as client:
            await client.request("GET", "/readyz")


class System:
    """Processes on one Redis, with `SHORT` settings and those given. `close()` ends them all."""

    def __init__(self, folder: Path, redis_url: str, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.redis_url = redis_url
        self.settings: dict[str, Any] = {**SHORT, **settings}
        self.journal = folder / "journal"
        self.journal.touch()
        self.daemons: dict[str, Daemon] = {}

    def api(self, name: str = "api", *, redis_url: str | None = None, **settings: object) -> ApiDaemon:
        """Start an API process."""
        daemon = ApiDaemon(name, self._environment(redis_url, settings), self.folder / f"{name}.log")
        self._add(daemon)
        return daemon

    def dispatcher(self, name: str = "dispatcher", *, redis_url: str | None = None, **settings: object) -> Daemon:
        """Start a dispatcher process."""
        command = (sys.executable, "-m", "coordinator.dispatcher")
        return self._start(name, command, redis_url, settings)

    def worker(
        self,
        name: str,
        coordinator: str,
        *arguments: str,
        target: str = PLAYER,
        redis_url: str | None = None,
        plays: dict[str, object] | None = None,
        **settings: object,
    ) -> Daemon:
        """Start a worker process with the worker id `name`. `plays`: see `harness.models.plays`."""
        command = (sys.executable, "-m", "coordinator.worker", target, "--coordinator", coordinator, *arguments)
        environment = {f"PLAYS_{key.upper()}": str(value) for key, value in (plays or {}).items()}
        return self._start(name, (*command, "--worker-id", name), redis_url, settings, environment)

    def executions(self) -> list[Execution]:
        """What the handlers of all workers noted so far, in the order of time."""
        lines = self.journal.read_bytes().splitlines()
        return sorted(map(_decode_execution, lines), key=lambda execution: execution.at)

    def starts(self, request_id: str) -> list[Execution]:
        """The runs of one job."""
        return [e for e in self.executions() if e.id == request_id and e.event == "start"]

    def close(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()

    def __enter__(self) -> System:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(
        self,
        name: str,
        command: Sequence[str],
        redis_url: str | None,
        settings: dict[str, object],
        extra: dict[str, str] | None = None,
    ) -> Daemon:
        environment = {**self._environment(redis_url, settings), **(extra or {}), "PLAYS_WORKER": name}
        daemon = Daemon(name, command, environment, self.folder / f"{name}.log")
        self._add(daemon)
        return daemon

    def _add(self, daemon: Daemon) -> None:
        before = self.daemons.get(daemon.name)
        assert before is None or not before.alive, f"there is a {daemon.name} already"
        self.daemons[daemon.name] = daemon
        daemon.start()

    def _environment(self, redis_url: str | None, settings: dict[str, object]) -> dict[str, str]:
        own = {**self.settings, **settings, "redis_url": redis_url or self.redis_url}
        paths = [str(TESTS / "harness" / "jump"), str(TESTS)]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PLAYS_JOURNAL": str(self.journal),
            "CLOCK_JUMP": str(self.folder / "clock-jump"),
            **{f"COORDINATOR_{name.upper()}": str(value) for name, value in own.items()},
        }


_decode_execution: Final = msgspec.json.Decoder(Execution).decode


def free_port() -> int:
    """A port of the loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(holds: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
    """Wait until `holds()`, sync or async; `what` says in the failure what that means. Refusals mean: not yet."""
    deadline = asyncio.get_running_loop().time() + seconds
    seen: object = None
    while asyncio.get_running_loop().time() < deadline:
        try:
            seen = holds()
            if asyncio.iscoroutine(seen):
                seen = await seen
        except CoordinatorError as error:
            seen = error
        else:
            if seen:
                return
        await asyncio.sleep(0.02)
    raise AssertionError(f"Not within {seconds:g} s: {what}. Last seen: {seen!r}")


async def members(client: AsyncClient) -> dict[str, Any]:
    """The workers that are live and serve, by their id, as the API lists them."""
    listed = msgspec.json.decode(await client.request("GET", "/workers"))["workers"]
    return {worker["worker_id"]: worker for worker in listed if worker["state"] == "live"}


async def joined(client: AsyncClient, *names: str) -> None:
    """Wait until these workers are live."""

    async def all_there() -> bool:
        return set(names) <= set(await members(client))

    await until(all_there, f"{', '.join(names)} live")
