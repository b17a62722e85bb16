"""The dispatcher process: composition root."""

from __future__ import annotations

import asyncio
import gc
import signal

import uvloop

from coordinator.core import logging
from coordinator.core.clock import Clock, SystemClock
from coordinator.core.connection import Connections, Partition
from coordinator.core.duty import Duty, run_all
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings
from coordinator.dispatcher.assigner import Assigner
from coordinator.dispatcher.auditor import Auditor
from coordinator.dispatcher.expirer import Expirer
from coordinator.dispatcher.janitor import Janitor
from coordinator.dispatcher.promoter import Promoter
from coordinator.dispatcher.rebalancer import Rebalancer
from coordinator.dispatcher.reclaimer import Reclaimer


def duties_of(partition: Partition, settings: Settings, clock: Clock) -> list[Duty]:
    """All that a dispatcher does for one partition."""
    return [
        Assigner(partition, settings, clock),
        Reclaimer(partition, settings, clock),
        Rebalancer(partition, settings, clock),
        Promoter(partition, settings, clock),
        Expirer(partition, settings, clock),
        Janitor(partition, settings, clock),
        Auditor(partition, settings, clock),
    ]


async def dispatch(settings: Settings, clock: Clock | None = None) -> None:
    """Run all duties for all partitions until cancelled. Waits for Redis; raises `Misconfigured`."""
    clock = clock or SystemClock()
    log = logging.get("dispatcher")
    async with await Connections.open(settings, client_name="coordinator-dispatcher", wait=float("inf")) as connections:
        log.info("dispatching", partitions=len(connections.partitions))
        gc.collect()
        gc.freeze()
        duties = [duty for partition in connections.partitions for duty in duties_of(partition, settings, clock)]
        await run_all(duties)


async def _until_stopped(settings: Settings) -> int:
    task = asyncio.create_task(dispatch(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    log = logging.get("dispatcher")
    try:
        await task
    except asyncio.CancelledError:
        # Nothing to hand back: every step is atomic, and this process holds no state.
        log.info("stopped")
        return 0
    except Misconfigured as error:
        log.error("can't go on", error=str(error))
        return 2
    return 0


def run_dispatcher(settings: Settings | None = None) -> int:
    """Run a dispatcher process until SIGTERM or SIGINT; returns its exit code (2: misconfigured)."""
    settings = settings or Settings()
    logging.configure(settings, "dispatcher")
    return uvloop.run(_until_stopped(settings))
