"""Ctrl-C, SIGTERM and a closed terminal for commands that run a system: the first begins the drain, the second cuts it short."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, _T]]) -> _T | None:
    """Run `main(hurry)` in an event loop. The first signal cancels it, the second sets `hurry`.

    Returns what `main` returns; None if a signal ended it.
    """

    async def watched() -> _T | None:
        hurry = asyncio.Event()
        task = asyncio.create_task(main(hurry))

        def stop() -> None:
            if task.cancelling():
                hurry.set()
            else:
                task.cancel()

        loop = asyncio.get_running_loop()
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does it with SIGHUP
                loop.add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(watched())
