"""The laboratory: the system as real processes, each with a proxy of its own before a Redis that can be harmed as well."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from faults.history import History
from faults.load import Way
from harness.proxy import Proxy
from harness.redis import RedisServer
from harness.system import Daemon, System, joined

from coordinator.client import AsyncClient, Producer
from coordinator.core.settings import Settings

APIS: Final = ("api-1", "api-2")
DISPATCHERS: Final = ("dispatcher-1", "dispatcher-2")
WORKERS: Final = ("worker-1", "worker-2", "worker-3")
MODELS: Final = ("play", "aplay", "batch")
_RESTART_AFTER: Final = 0.2
_OWN_ENDS: Final = (-signal.SIGKILL, 3, 4)
"""How a worker may end by itself: by a poison job; superseded; by handlers that never came back."""
_TIMES: Final = {"lease_seconds": 1.5, "heartbeat_seconds": 0.4}
"""So short that on a busy machine leases pass by themselves, too."""


class Lab:
    """Everything that a fault may touch. Open it with `Lab.open`."""

    def __init__(self, system: System, server: RedisServer | None, history: History, proxies: dict[str, Proxy]) -> None:
        self.system = system
        self._server = server
        self.history = history
        self.proxies = proxies
        """By the name of the process, and `producer`."""
        self.ways: list[Way] = []
        self.clock_jump = system.folder / "clock-jump"
        self.held_down: set[str] = set()
        """Processes that are down on purpose; every other one that ends is started again, as an orchestrator does it."""
        self.ended: list[str] = []
        """Which ended by themselves and should not have."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, folder: Path, server: RedisServer, history: History, seed: int, partitions: int = 1
    ) -> AsyncIterator[Lab]:
        """Start it all; wait until the workers are there."""
        names = (*APIS, *DISPATCHERS, *WORKERS, "producer")
        async with contextlib.AsyncExitStack() as stack:
            proxies = {
                name: await stack.enter_async_context(Proxy("127.0.0.1", server.port, seed=seed + i))
                for i, name in enumerate(names)
            }
            system = stack.enter_context(
                System(folder, server.url(), max_crashes=history.max_crashes, partitions=partitions, **_TIMES)
            )
            lab = cls(system, server, history, proxies)
            apis = [system.api(name, redis_url=proxies[name].url) for name in APIS]
            for name in DISPATCHERS:
                system.dispatcher(name, redis_url=proxies[name].url)
            for i, name in enumerate(WORKERS):
                system.worker(name, apis[i % len(apis)].url, redis_url=proxies[name].url)
            for api in apis:
                client = await stack.enter_async_context(AsyncClient(api.url, timeout=5.0, patience=0.0))
                lab.ways.append(client)
            await apis[0].ready()
            settings = Settings(redis_url=proxies["producer"].url, partitions=partitions)
            producer = await stack.enter_async_context(Producer.open(settings=settings))
            lab.ways.append(producer)
            async with apis[0].client() as client:
                await joined(client, *WORKERS)
            async with lab._supervised():
                yield lab

    @classmethod
    @contextlib.asynccontextmanager
    async def around(cls, system: System, history: History) -> AsyncIterator[Lab]:
        """A laboratory without a server and proxies of its own; whoever opens it starts the processes."""
        lab = cls(system, None, history, {})
        async with lab._supervised():
            yield lab

    @contextlib.asynccontextmanager
    async def _supervised(self) -> AsyncIterator[None]:
        supervisor = asyncio.create_task(self._supervise())
        try:
            yield
        finally:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
            self.heal()

    @property
    def server(self) -> RedisServer:
        assert self._server is not None
        return self._server

    def daemon(self, name: str) -> Daemon:
        return self.system.daemons[name]

    async def stop(self, name: str) -> int:
        """Ask a process to end, and keep it down. Its exit code."""
        daemon = self.daemon(name)
        self.held_down.add(name)
        if name in WORKERS and daemon.alive:
            self.history.asked_to_stop.add(daemon.pid)
        return await daemon.stop()

    def kill(self, name: str) -> None:
        """Kill a process, and keep it down."""
        self.held_down.add(name)
        self.daemon(name).kill()

    def start(self, name: str) -> None:
        """Start a process that is down."""
        self.held_down.discard(name)
        if not self.daemon(name).alive:
            self.daemon(name).start()

    def heal(self) -> None:
        """Whatever was harmed is whole again."""
        for proxy in self.proxies.values():
            proxy.calm()
        for name, daemon in self.system.daemons.items():
            daemon.resume()
            self.start(name)

    def admin(self, *command: object) -> Any:
        """A command straight to the server."""
        with self.server.client() as client:
            return client.execute_command(*command)

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(_RESTART_AFTER)
            for name, daemon in self.system.daemons.items():
                if not daemon.alive and name not in self.held_down:
                    if name not in WORKERS or daemon.code not in _OWN_ENDS:
                        self.ended.append(f"{name} with the code {daemon.code}")
                    daemon.start()

    def complaints(self) -> list[str]:
        """What went wrong inside our processes that no fault excuses: they ended, or met an error that nobody foresaw."""
        found = [f"ended by itself: {what}" for what in self.ended]
        for name, daemon in self.system.daemons.items():
            for line in daemon.log.read_text(errors="replace").splitlines():
                if line.startswith("Traceback "):
                    found.append(f"unforeseen: a traceback in the log of {name}")
                elif '"exception":' in line and '"duty":"handler"' not in line:
                    found.append(f"unforeseen: {name}: {line[:300]}")
        return found
