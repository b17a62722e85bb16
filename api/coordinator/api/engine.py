"""What the routes stand on: the connections to Redis, the submitter and the waiters, opened in the background.

The process starts and answers whether or not Redis is there; until it is, and whenever it is away, requests get a 503.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from coordinator.api.tally import Tally
from coordinator.core import logging
from coordinator.core.connection import Connections
from coordinator.core.errors import CoordinatorError, Misconfigured, RedisUnavailable
from coordinator.core.settings import Settings
from coordinator.core.submitter import Submitter
from coordinator.core.waiting import Waiting

_PAUSE_SECONDS = 0.5


class Core(NamedTuple):
    """The open engine."""

    connections: Connections
    submitter: Submitter
    waiting: Waiting


class Engine:
    """Opens the core and keeps it going. `run` is the duty; the routes read `core`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.settled = asyncio.Event()
        """Set once Redis was reached for the first time, or turned out not to be ours."""
        self.failure: Exception | None = None
        """Why this process can't ever do its work, if that is so."""
        self.waits: set[asyncio.Task[object]] = set()
        """The waits for outcomes that are under way."""
        self.tally = Tally()
        self.stopping = False
        self.trouble: str | None = None
        """What keeps a background duty from running, if anything does."""
        self._core: Core | None = None
        self._closed: CoordinatorError = RedisUnavailable("not connected yet")
        self._log = logging.get("engine")

    @property
    def core(self) -> Core:
        """The open engine. Raises `RedisUnavailable` or `Misconfigured` while there is none."""
        if self._core is None:
            raise self._closed.with_traceback(None)
        return self._core

    async def run(self) -> None:
        """Open, however long that takes, then keep the waiters' subscription alive. Runs until cancelled.

        If the Redis that it finds is not one to work with, it leaves the reason in `failure`, and ends.
        """
        try:
            connections = await self._open()
        except Exception as error:
            self.failure = error
            if isinstance(error, Misconfigured):
                self._closed = error
            self.settled.set()
            return
        async with connections:
            self._core = Core(connections, Submitter(connections, self.settings), Waiting(connections))
            self.settled.set()
            try:
                while True:
                    await self._listen(self._core.waiting)
            finally:
                self._core = None
                self._closed = RedisUnavailable("this process is stopping")

    def stop_waiting(self) -> None:
        """Let all who wait for an outcome have what holds now, so that a stopping process is not held up by them."""
        self.stopping = True
        for task in self.waits:
            task.cancel()

    async def _open(self) -> Connections:
        while True:
            try:
                return await Connections.open(self.settings, client_name="coordinator-api")
            except RedisUnavailable as error:
                if str(error) != str(self._closed):
                    self._log.warning("waiting for Redis", error=str(error))
                self._closed = error
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self, waiting: Waiting) -> None:
        """Run the waiters' duty. It is not meant to end: if it does, say so and start it again after a pause."""
        try:
            await waiting.run()
            self.trouble = "The subscription for outcomes ended."
        except Exception:
            self.trouble = "The subscription for outcomes failed; the log says why."
            self._log.exception("the waiting duty died")
        await asyncio.sleep(_PAUSE_SECONDS)
        self.trouble = None
