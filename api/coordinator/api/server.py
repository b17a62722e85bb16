"""Running the API under uvicorn: its limits, its logs, its stop."""

from __future__ import annotations

import asyncio
import gc
import logging as std_logging
import signal
import socket
from types import FrameType
from typing import Any, Final

import uvicorn

from coordinator.api.app import Api, create_app
from coordinator.api.protocol import Protocol
from coordinator.core import logging
from coordinator.core.settings import Settings

_GC_THRESHOLDS: Final = (50_000, 20, 100)


class Server(uvicorn.Server):
    """A uvicorn server that lets waiting requests go when it stops, and keeps the garbage collector off the hot path."""

    def __init__(self, config: uvicorn.Config, api: Api) -> None:
        super().__init__(config)
        self._api = api
        self._log = logging.get("http")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        if self.started and self._api.engine.failure is None:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._log.info("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._api.engine.failure is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Unlike uvicorn, don't raise the signal again at the end: to stop when asked to is a success.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._api.engine.failure is None:
            self._log.info("stopping")
        self._api.engine.stop_waiting()
        await super().shutdown(sockets)


class _ToStructlog(std_logging.Handler):
    """What libraries log by the standard library, in the form of our own logs."""

    def emit(self, record: std_logging.LogRecord) -> None:
        logger = logging.get(record.name)
        logger.log(record.levelno, record.getMessage().strip(), exc_info=record.exc_info or None)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is under way, within the deployment's drain time.

    Raises `Misconfigured` if the Redis found is not one to work with. Ends the process if it can't listen.
    """
    std_logging.basicConfig(handlers=[_ToStructlog()], level=std_logging.WARNING, force=True)
    api = create_app(settings)
    options: dict[str, Any] = {
        "host": settings.api_host,
        "port": settings.api_port,
        "http": Protocol,
        "ws": "none",
        "loop": "uvloop",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": max(1, int(settings.drain_seconds)),
        "backlog": 4096,
    }
    await Server(uvicorn.Config(api, **options), api).serve()
    if api.engine.failure is not None:
        raise api.engine.failure


def run(settings: Settings) -> None:
    """Run the API process in an event loop of its own. Raises `Misconfigured`."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
