"""A whole coordinator on one machine: which processes it consists of, how they come up, in which order they go.

They go in the order of the work: workers first, so that they can still report what they finish; then dispatchers, then
the API, by which workers sign off; and last Redis, which all of them need to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from coordinator.cli.child import Child
from coordinator.cli.redis_server import embedded
from coordinator.cli.supervisor import StartFailed, Supervisor
from coordinator.client import AsyncClient, InvalidInput
from coordinator.core import names
from coordinator.core.connection import Connections
from coordinator.core.embedded import EmbeddedRedis
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings

_START_SECONDS: Final = 120.0
_SIGN_OFF_SECONDS: Final = 5.0
"""Beyond the drain time, for a process to say goodbye and end."""


@dataclass(frozen=True)
class Plan:
    """What to run. With `redis_url`, that Redis; without, an embedded one whose data is kept in `data`."""

    data: Path
    target: str
    apis: int = 1
    dispatchers: int = 2
    workers: int = 3
    host: str = "127.0.0.1"
    port: int = 8000
    """Of the first API; the others follow. 0: free ports."""
    redis_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further settings for all processes."""


@dataclass(frozen=True)
class System:
    """A coordinator that is up."""

    apis: Sequence[str]
    """URLs."""
    redis_url: str
    workers: Sequence[str]
    """Worker ids."""
    logs: Path
    supervisor: Supervisor
    redis: EmbeddedRedis | None
    """None: it was there before."""

    @property
    def processes(self) -> dict[str, int]:
        """Names and process ids of all that was started."""
        there = {"redis": self.redis.pid} if self.redis else {}
        return there | {name: child.pid for name, child in self.supervisor.children.items()}


@contextlib.asynccontextmanager
async def running(plan: Plan, hurry: asyncio.Event) -> AsyncIterator[System]:
    """Bring a system up, and down at the end; set `hurry` to cut the drain short.

    Raises `StartFailed`, `InvalidInput`, `Misconfigured`, `RedisUnavailable`.
    """
    ports = _ports(plan)
    logs = plan.data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_locked(plan.data))
        redis, redis_url = None, plan.redis_url
        if redis_url is None:
            redis = await stack.enter_async_context(embedded(plan.data / "redis"))
            redis_url = redis.url
        settings = Settings(redis_url=redis_url)
        async with await Connections.open(settings, client_name="supervisor"):
            pass  # it is there, and it is one of ours
        host = "127.0.0.1" if plan.host in ("0.0.0.0", "::") else plan.host
        apis = [f"http://{f'[{host}]' if ':' in host else host}:{port}" for port in ports]
        workers = _worker_ids(plan)
        environment = {"COORDINATOR_REDIS_URL": redis_url, **plan.environment}
        supervisor = Supervisor()
        try:
            for name, command in _commands(plan, ports, apis, workers).items():
                argv = [sys.executable, "-m", "coordinator.cli", *command]
                await supervisor.start(Child(name, argv, environment, logs / f"{name}.log"))
            await _come_up(supervisor, apis, workers)
            yield System(apis, redis_url, workers, logs, supervisor, redis)
        finally:
            patience = settings.drain_seconds + _SIGN_OFF_SECONDS
            for group in (workers, _named(supervisor, "dispatcher-"), _named(supervisor, "api-")):
                there = [name for name in group if name in supervisor.children]
                await supervisor.stop(there, patience, hurry)


def _commands(plan: Plan, ports: Sequence[int], apis: Sequence[str], workers: Sequence[str]) -> dict[str, list[str]]:
    """What each process runs, by its name, in the order of their start."""
    return {
        **{f"api-{i}": ["api", f"--host={plan.host}", f"--port={port}"] for i, port in enumerate(ports, 1)},
        **{f"dispatcher-{i}": ["dispatcher"] for i in range(1, plan.dispatchers + 1)},
        **{
            worker: ["worker", plan.target, f"--coordinator={apis[i % len(apis)]}", f"--worker-id={worker}"]
            for i, worker in enumerate(workers)
        },
    }


async def _come_up(supervisor: Supervisor, apis: Sequence[str], workers: Sequence[str]) -> None:
    """Wait until all APIs are ready and all workers live; give up as soon as any process ends."""

    async def ready() -> None:
        for url in apis:
            async with AsyncClient(url, patience=_START_SECONDS) as client:
                await client.request("GET", "/readyz")
        async with AsyncClient(apis[0], patience=_START_SECONDS) as client:
            missing = set(workers)
            while missing:
                await asyncio.sleep(0.05)
                live = await client.request("GET", "/workers", params={"state": "live"})
                missing -= {worker["worker_id"] for worker in msgspec.json.decode(live)["workers"]}

    tasks = [asyncio.create_task(ready()), asyncio.create_task(supervisor.failed())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise StartFailed(f"The system did not come up within {_START_SECONDS:g} seconds; see its logs.")
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    supervisor.settled()


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Nobody else may use this data folder meanwhile."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misconfigured(
                f"A coordinator is running in {data} already; choose another folder with --data."
            ) from None
        yield


def _ports(plan: Plan) -> list[int]:
    """The APIs' ports, seen to be free."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        ports = []
        for i in range(plan.apis):
            wanted = plan.port + i if plan.port else 0
            probe = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((plan.host, wanted))
            except (OSError, OverflowError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise InvalidInput(
                    f"Can't listen on {plan.host} port {wanted}: {why}. Choose another with --port."
                ) from None
            ports.append(int(probe.getsockname()[1]))
        return ports


def _worker_ids(plan: Plan) -> list[str]:
    """Short names where nobody else can have them; unique ones in a Redis that others may use too."""
    if plan.redis_url is None:
        return [f"worker-{i}" for i in range(1, plan.workers + 1)]
    return [names.new_worker_id(socket.gethostname()) for _ in range(plan.workers)]


def _named(supervisor: Supervisor, prefix: str) -> list[str]:
    return [name for name in supervisor.children if name.startswith(prefix)]
