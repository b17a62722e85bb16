"""The worker process: loads the worker, runs its hooks, runs it until a signal comes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import Final

import uvloop

from coordinator.core import logging, names
from coordinator.core.settings import Settings
from coordinator.worker import logs
from coordinator.worker.definition import Worker
from coordinator.worker.lease import Superseded
from coordinator.worker.loading import load
from coordinator.worker.registrar import HttpRegistrar
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
    worker = load(target)
    # Named after this host; the coordinator, who would choose one too, knows only its own.
    worker_id = worker_id or names.new_worker_id(socket.gethostname())
    return uvloop.run(_serve(worker, HttpRegistrar(coordinator), settings, worker_id, grace))


async def _serve(
    worker: Worker, registrar: HttpRegistrar, settings: Settings, worker_id: str | None, grace: float | None
) -> int:
    runtime = Runtime(worker, registrar, settings, worker_id=worker_id, grace=grace)
    loop = asyncio.get_running_loop()
    # While hooks run nothing is registered: a signal may end the process right there.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    await call_hooks(worker.startups)
    signal.signal(signal.SIGINT, before)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, runtime.stop)
    try:
        code = await _exit_code(runtime)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        await call_hooks(worker.shutdowns)
    if runtime.left_running:
        # The interpreter would wait for some of their threads, perhaps for ever.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


async def _exit_code(runtime: Runtime) -> int:
    log = logging.get("worker")
    try:
        await runtime.run()
    except Superseded as error:
        log.error(str(error))
        return SUPERSEDED
    except StuckHandlers as error:
        log.error(str(error))
        return STUCK
    log.info("stopped")
    return 0
