"""Runners: where handler calls run. Sync handlers in threads, async ones in tasks of the event loop.

Both give back what is done in the event loop's thread, many calls at a time. A thread takes call after call as long as
there are some, and wakes the loop once for all results that the loop has not fetched yet: a hop from thread to thread
costs more than a small handler.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from coordinator.worker.deliveries import Call
from coordinator.worker.invocation import Invocation, Outcome

Finished = Callable[[Call, list[Outcome]], None]
"""What is told in the event loop's thread when a call has ended that was not abandoned."""


class Runner(Protocol):
    """Runs calls side by side. Whoever hands in calls sees to it that they are not too many."""

    stuck: int
    """Abandoned calls that have not ended."""

    def run(self, call: Call) -> None: ...

    def abandon(self, call: Call) -> bool:
        """Wait for this call no more, and stop it if that is possible. False: it has ended by itself."""
        ...

    def close(self) -> None:
        """No more calls will come."""
        ...


class Threads:
    """Runs a sync handler. A thread that never comes back can't be killed: it is left alone and replaced."""

    def __init__(self, invocation: Invocation, finished: Finished, drained: Callable[[], None], name: str) -> None:
        self.stuck = 0
        self._invocation = invocation
        self._finished = finished
        self._drained = drained
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._in_work = 0
        self._threads = 0
        self._done: deque[tuple[Call, list[Outcome]]] = deque()
        self._scheduled = False
        self._ending = threading.Lock()

    def run(self, call: Call) -> None:
        self._in_work += 1
        if self._threads < self._in_work:
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._calls.put(call)

    def abandon(self, call: Call) -> bool:
        with self._ending:
            if call.finished or not call.started:
                return False
            call.abandoned = True
        self.stuck += 1
        self._threads -= 1
        self._in_work -= 1
        return True

    def close(self) -> None:
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        take, invocation, context = self._calls.get, self._invocation, self._context
        while (call := take()) is not None:
            outcomes = context.copy().run(invocation.run, call)
            with self._ending:
                call.finished = True
            self._done.append((call, outcomes))
            if not self._scheduled:
                self._scheduled = True
                try:
                    self._loop.call_soon_threadsafe(self._drain)
                except RuntimeError:
                    return  # the loop is closed: the process ends
            if call.abandoned:
                return

    def _drain(self) -> None:
        self._scheduled = False
        done = self._done
        while done:
            call, outcomes = done.popleft()
            if call.abandoned:
                self.stuck -= 1
            else:
                self._in_work -= 1
                self._finished(call, outcomes)
        self._drained()


class Tasks:
    """Runs an async handler, each call in a task of its own."""

    def __init__(self, invocation: Invocation, finished: Finished, drained: Callable[[], None], name: str) -> None:
        self.stuck = 0
        self._invocation = invocation
        self._finished = finished
        self._drained = drained
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def run(self, call: Call) -> None:
        call.task = self._loop.create_task(self._run(call), name=self._name)
        self._tasks.add(call.task)

    def abandon(self, call: Call) -> bool:
        if call.finished:
            return False
        call.abandoned = True
        if call.task is not None:
            self.stuck += 1
            call.task.cancel()
        return True

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _run(self, call: Call) -> None:
        outcomes: list[Outcome] = []
        try:
            outcomes = await self._invocation.run_async(call)
        finally:
            call.finished = True
            if call.task is not None:
                self._tasks.discard(call.task)
                # The task's context leads back to the call; such a circle for each job is a lot of garbage to collect.
                call.task = None
            if call.abandoned:
                self.stuck -= 1
            else:
                self._finished(call, outcomes)
                if not self._scheduled:
                    self._scheduled = True
                    self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        self._drained()
