"""Keeps child processes going: starts again what dies, stops all in the right order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from coordinator.cli.child import Child
from coordinator.core import logging
from coordinator.core.errors import CoordinatorError

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
_STABLE_SECONDS: Final = 30.0
"""Whoever ran so long has not failed again, but anew."""


class StartFailed(CoordinatorError):
    """A process ended before the system was up."""


class Supervisor:
    """The children of one system. `start` them, then `settled()`, and in the end `stop` them group by group."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._settled = False
        self._failure: StartFailed | None = None
        self._has_failed = asyncio.Event()
        self._log = logging.get("supervisor")

    async def start(self, child: Child) -> None:
        """Start a child and keep it going from now on."""
        self.children[child.name] = child
        await child.start()
        self._log.debug("started", child=child.name, pid=child.pid)
        self._keepers[child.name] = asyncio.create_task(self._keep(child))

    def settled(self) -> None:
        """All are up. From now on, a child that ends is started again; before, it is a reason to give up."""
        self._settled = True

    async def failed(self) -> None:
        """Wait until a child ends before all was settled. Raises `StartFailed`."""
        await self._has_failed.wait()
        if self._failure is not None:
            raise self._failure

    def surrender(self, name: str) -> Child:
        """Leave a child to its fate: from now on, it is not started again. It is still stopped with the others."""
        self._keepers.pop(name).cancel()
        return self.children[name]

    async def stop(self, names: Sequence[str], patience: float, hurry: asyncio.Event) -> None:
        """SIGTERM; after `patience` seconds, or as soon as `hurry` is set, SIGKILL. Returns when all have ended."""
        children = [self.children[name] for name in names]
        for child in children:
            keeper = self._keepers.pop(child.name, None)
            if keeper is not None:
                keeper.cancel()
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)
        ended = asyncio.gather(*(child.ended() for child in children))
        hurried = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait((ended, hurried), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            for child in children:
                if child.running:
                    self._log.warning("did not stop in time, killing it", child=child.name)
                    child.signal(signal.SIGKILL)
        await ended

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            since = loop.time()
            code = await child.ended()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if not self._settled:
                why = child.last_words() or "it left no message"
                self._failure = StartFailed(f"{child.name} {how}: {why} (log: {child.log})")
                self._has_failed.set()
                return
            if loop.time() - since >= _STABLE_SECONDS:
                pause = _FIRST_PAUSE
            self._log.warning(f"{child.name} {how}; starting it again in {pause:g} s", log=str(child.log))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await child.start()
            except OSError as error:
                self._log.error(f"can't start {child.name}", error=str(error))
