"""The heart: a small process that renews the worker's lease while handlers hold the worker's interpreter for minutes.

    python -m coordinator.worker.heart

It gets its orders on stdin, one JSON document per line: first whose lease it renews (`Orders`), then the ticks of the
worker's event loop. It writes one line per heartbeat to stdout: live, draining, superseded, unknown, or away (Redis).

It beats only for a worker that deserves it. When the loop stops ticking, the worker is to get no more work, but keeps
its lease for as long as the last tick allows (`patience`): by then every job in work is over its limit. A worker that is
stopped (SIGSTOP) is not working at all and loses its lease; a worker that is dead closes the pipe, and the heart ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from coordinator.core import steps
from coordinator.core.connection import Partition
from coordinator.core.errors import CoordinatorError
from coordinator.core.topology import sources

_LOOK_SECONDS: Final = 0.5
"""How often it looks whether the worker is there, at the least."""
_WORST: Final = ("superseded", "unknown", "draining", "live")


class Orders(msgspec.Struct):
    """Whose lease to renew, and how."""

    worker_id: str
    incarnation: str
    redis_url: str
    partitions: int
    """Of the deployment."""
    places: list[int]
    """Partitions that the worker's models live in."""
    lease_seconds: float
    heartbeat_seconds: float
    worker_pid: int


class Tick(msgspec.Struct):
    """A sign of life of the worker's event loop."""

    patience: float
    """Seconds without another tick after which the lease is to lapse."""


class Heart:
    """Renews one worker's lease for as long as it deserves it."""

    def __init__(
        self, orders: Orders, say: Callable[[str], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        found = sources(orders.redis_url)
        self._orders = orders
        self._say = say
        self._monotonic = monotonic
        self._partitions = [
            Partition(
                place,
                found[place % len(found)],
                patience=min(1.5, orders.heartbeat_seconds),
                client_name=f"heart-{orders.worker_id}",
            )
            for place in orders.places
        ]
        self._ticked = monotonic()
        self._patience = orders.lease_seconds

    def tick(self, tick: Tick) -> None:
        """The worker's loop runs."""
        self._ticked = self._monotonic()
        self._patience = tick.patience

    async def close(self) -> None:
        """Close its connections."""
        for partition in self._partitions:
            await partition.redis.aclose()

    async def run(self) -> None:
        """Beat until the worker is gone."""
        interval = self._orders.heartbeat_seconds
        next_beat = self._monotonic()
        while os.getppid() == self._orders.worker_pid:
            if self._monotonic() >= next_beat:
                next_beat = self._monotonic() + interval
                await self.beat()
            await asyncio.sleep(max(0.01, min(_LOOK_SECONDS, next_beat - self._monotonic())))

    async def beat(self) -> None:
        """One heartbeat, if the worker deserves it."""
        silence = self._monotonic() - self._ticked
        if silence > self._patience or is_stopped(self._orders.worker_pid):
            return
        taking = silence <= 2 * self._orders.heartbeat_seconds
        try:
            answers = await asyncio.gather(
                *(
                    steps.heartbeat(
                        partition,
                        self._orders.worker_id,
                        self._orders.incarnation,
                        lease_ms=int(self._orders.lease_seconds * 1000),
                        taking=taking,
                    )
                    for partition in self._partitions
                )
            )
        except CoordinatorError:
            self._say("away")
            return
        self._say(next(state for state in _WORST if state in answers))


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal or a debugger. Known on Linux only; elsewhere False."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] in "Tt"


async def _run(orders: Orders) -> None:
    heart = Heart(orders, _say)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    beating = asyncio.create_task(heart.run())
    read = msgspec.json.Decoder(Tick).decode

    async def listen() -> None:
        while line := await lines.readline():
            heart.tick(read(line))

    listening = asyncio.create_task(listen())
    await asyncio.wait((beating, listening), return_when=asyncio.FIRST_COMPLETED)
    transport.close()
    # The worker is gone or wants us gone; there is nothing to clean up that the kernel does not.
    sys.stdout.flush()
    os._exit(0)


def _say(state: str) -> None:
    try:
        print(state, flush=True)
    except BrokenPipeError:
        os._exit(0)


def main() -> None:
    """Read the orders and beat. Signals to the worker's process group are the worker's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line = bytearray()
    # One byte at a time: what follows the first line belongs to the event loop.
    while byte := os.read(0, 1):
        if byte == b"\n":
            asyncio.run(_run(msgspec.json.decode(line, type=Orders)))
        line += byte


if __name__ == "__main__":
    main()
