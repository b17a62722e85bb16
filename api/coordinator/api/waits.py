"""Waiting for an outcome on behalf of a client that may hang up meanwhile."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from coordinator.api.engine import Engine
from coordinator.core.results import Result


async def outcome(engine: Engine, receive: Receive, request_id: str, wait: float) -> Result:
    """The job's result: at once when it is final or `wait` is 0, else when it becomes final or `wait` seconds are over.

    A wait also ends, with what holds then, when the client hangs up or this process stops: nothing is left behind.
    Raises `NotFound`, `RedisUnavailable`.
    """
    waiting = engine.core.waiting
    if wait <= 0 or engine.stopping:
        return await waiting.result(request_id)
    waiter = asyncio.create_task(waiting.result(request_id, wait))
    watcher = asyncio.create_task(_cancel_on_hang_up(receive, waiter))
    engine.waits.add(waiter)
    try:
        return await waiter
    except asyncio.CancelledError:
        me = asyncio.current_task()
        if me is not None and me.cancelling():
            raise
        return await waiting.result(request_id)
    finally:
        engine.waits.discard(waiter)
        watcher.cancel()


async def _cancel_on_hang_up(receive: Receive, waiter: asyncio.Task[Result]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    waiter.cancel()
