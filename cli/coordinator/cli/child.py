"""One child process: how it is started so that it never outlives us, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from coordinator.core.processes import ends_with_us

_LAST_BYTES: Final = 4096


class Child:
    """A command that is to run as a process; its output goes to `log`. It may be started again after it ended."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = {**os.environ, **environment}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process's id, of this start or the last."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it in a process group of its own, so that Ctrl-C reaches only us and we stop all in order."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=ends_with_us(),
            )

    async def ended(self) -> int:
        """Wait for its end; returns the exit code, or minus the signal that killed it."""
        assert self._process is not None
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def last_words(self) -> str:
        """What the last line of its log says."""
        try:
            data = self.log.read_bytes()[-_LAST_BYTES:]
        except OSError:
            return ""
        lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
        if not lines:
            return ""
        try:
            event = orjson.loads(lines[-1])
            return ": ".join(str(event[name]) for name in ("event", "error") if event.get(name))
        except (orjson.JSONDecodeError, AttributeError):
            return lines[-1].strip()
