"""The Redis of a system on one machine: the one that was named, or an embedded one that is kept going."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from coordinator.core import logging
from coordinator.core.embedded import EmbeddedRedis
from coordinator.core.errors import Misconfigured

_LOOK_SECONDS: Final = 0.25
_PAUSE_SECONDS: Final = 2.0


@contextlib.asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[EmbeddedRedis]:
    """An embedded Redis with its data in `folder`; if it dies it is started again, on the same port and data.

    Raises `Misconfigured` if it does not come up the first time.
    """
    redis = EmbeddedRedis(folder)
    try:
        await asyncio.to_thread(redis.start)
        keeping = asyncio.create_task(_keep(redis))
        try:
            yield redis
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
    finally:
        await asyncio.to_thread(redis.stop)


async def _keep(redis: EmbeddedRedis) -> None:
    log = logging.get("supervisor")
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if redis.running:
            continue
        log.warning("redis has died; starting it again", log=str(redis.log))
        try:
            await asyncio.to_thread(redis.start)
        except Misconfigured as error:
            log.error(str(error))
            await asyncio.sleep(_PAUSE_SECONDS)
