"""A real redis-server that a test may stop, kill, pause and start again on the same data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from harness.clusters import server_binary

_START_SECONDS = 30.0


class RedisServer:
    """One server on a free port of the loopback. `arguments` go to its command line."""

    def __init__(self, folder: Path, *arguments: str, aof: bool = False) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self._arguments = (*arguments, "--appendonly", "yes" if aof else "no")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def client(self, database: int = 0) -> redis.Redis:
        """A plain synchronous client; the caller closes it."""
        return redis.Redis(port=self.port, db=database, socket_timeout=10.0)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, or start again on the same data, and return once it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            # Python ignores SIGXFSZ, and so shall the server: a file that may not grow is to be an error, not its end.
            self._process = subprocess.Popen(
                [*command, "--save", "", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                restore_signals=False,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"redis-server did not come up:\n{(self.folder / 'redis.log').read_text()[-2000:]}"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order; with an append-only file its data is on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It stays connected and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait()

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
