"""The pulse: the worker's side of the pipe to its heart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import msgspec

from coordinator.core.errors import CoordinatorError
from coordinator.worker.heart import Orders, Tick


class Pulse:
    """The heart process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self._process = process
        self._pipe = pipe

    @classmethod
    async def start(cls, orders: Orders) -> Pulse:
        """Start a heart."""
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "coordinator.worker.heart",
                stdin=theirs,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            os.close(ours)
            raise CoordinatorError(f"The heart process does not start: {error}.") from error
        finally:
            os.close(theirs)
        self = cls(process, ours)
        self._write(msgspec.json.encode(orders))
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def tick(self, patience: float) -> None:
        """Say that the loop runs. At once, by a plain write: the next thing that runs may block the loop."""
        self._write(msgspec.json.encode(Tick(patience)))

    async def answer(self) -> str:
        """The next answer to a heartbeat; empty when the heart has ended."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def stop(self) -> None:
        """End the heart."""
        with contextlib.suppress(OSError):
            os.close(self._pipe)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def _write(self, line: bytes) -> None:
        # A full pipe means that the heart does not read; a broken one that it has ended. Its answers will tell.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, line + b"\n")
