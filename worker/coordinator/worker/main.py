"""The worker process: loads the worker, runs its hooks, runs it until a signal comes."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

import uvloop

from coordinator.core import logging
from coordinator.core.settings import Settings
from coordinator.worker import logs
from coordinator.worker.definition import Worker
from coordinator.worker.lease import Superseded
from coordinator.worker.loading import load
from coordinator.worker.registrar import HttpRegistrar, Registrar
from coordinator.worker.runtime import Runtime, call_hooks
from coordinator.worker.watch import StuckHandlers

SUPERSEDED: Final = 3
"""Exit code: another process has this worker's id; starting again would take it back."""
STUCK: Final = 4
"""Exit code: handlers never came back; starting again helps."""


def run_worker(target: str, coordinator: str, worker_id: str | None = None, grace: float | None = None) -> int:
    """Run the worker `module:attribute` until SIGTERM or SIGINT; a second signal ends it at once. Returns its exit code.

    `grace`: seconds to finish running jobs. Raises `InvalidInput`, `Misconfigured`, and what the worker's own code raises
    while it starts.
    """
    settings = Settings()
    logging.configure(settings, "worker")
    logs.configure(settings.log_level)
    registrar = HttpRegistrar(coordinator)
    worker = load(target)
    return uvloop.run(serve(worker, registrar, settings, worker_id=worker_id, grace=grace))


async def serve(
    worker: Worker,
    registrar: Registrar,
    settings: Settings,
    *,
    worker_id: str | None = None,
    grace: float | None = None,
) -> int:
    """Run a worker in this event loop, in the main thread. Returns the exit code."""
    runtime = Runtime(worker, registrar, settings, worker_id=worker_id, grace=grace)
    log = logging.get("worker")
    loop = asyncio.get_running_loop()
    # While hooks run nothing is registered: a signal may end the process right there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    await call_hooks(worker.startups)
    signal.signal(signal.SIGINT, before)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, runtime.stop)
    try:
        await runtime.run()
    except Superseded as error:
        log.error(str(error))
        return SUPERSEDED
    except StuckHandlers as error:
        log.error(str(error))
        return STUCK
    finally:
        await call_hooks(worker.shutdowns)
    log.info("stopped")
    return 0
