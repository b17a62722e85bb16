"""Overload: producers that hand in several times what the workers can do, and what that does to everybody.

    python tests/faults/overload.py --seconds 60

first measures how many jobs a second are completed without overload, then with it, and prints both, their ratio, how long
a refusal takes, how long accepted jobs take, and how much memory Redis needed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.redis import RedisServer
from harness.system import System, joined, until

from coordinator.client import AsyncClient
from coordinator.core import keys, steps
from coordinator.core.connection import Connections
from coordinator.core.errors import Refused
from coordinator.core.results import Result, result_of
from coordinator.core.settings import Settings

WORKERS: Final = 2
CAPACITY: Final = 4
JOB_SECONDS: Final = 0.2
CAPABLE: Final = WORKERS * CAPACITY / JOB_SECONDS
"""Jobs a second that the workers can do at best."""
MAX_BACKLOG: Final = 100
MOST_HELD: Final = MAX_BACKLOG + WORKERS * CAPACITY * 2
"""What may lie in streams: the backlog, and each worker's window."""
_TICK: Final = 0.05
_PAGE: Final = 200
_END_SECONDS: Final = 120.0


@dataclass
class Flood:
    """What producers met in one run, and what Redis held meanwhile."""

    sent: int = 0
    accepted: list[str] = field(default_factory=list)
    refusals: list[tuple[float, Refused]] = field(default_factory=list)
    """Seconds that it took, and what was said."""
    most_held: int = 0
    """The most jobs in streams at any look."""
    bytes_before: int = 0
    bytes_most: int = 0
    results: dict[str, Result] = field(default_factory=dict)
    throughput: float = 0.0
    """Jobs completed in a second, while producers went on."""

    @property
    def latencies(self) -> list[float]:
        """Seconds from submission to outcome of the jobs that were accepted, sorted."""
        found = (
            (result.finished_at - result.submitted_at).total_seconds()
            for result in self.results.values()
            if result.finished_at is not None
        )
        return sorted(found)


class Scene:
    """A small system with a known capacity."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self._server = server
        self._system = System(folder, server.url(), max_backlog=MAX_BACKLOG)
        self._api = self._system.api()
        self._system.dispatcher()
        for i in range(WORKERS):
            self._system.worker(f"w{i}", self._api.url, plays={"capacity": CAPACITY})

    async def ready(self) -> None:
        async with self._api.client() as client:
            await joined(client, *(f"w{i}" for i in range(WORKERS)))

    def close(self) -> None:
        self._system.close()

    async def flood(self, rate: float, seconds: float) -> Flood:
        """Hand in `rate` jobs a second for so long, whatever the answers; then wait until all that was accepted is over."""
        flood = Flood()
        with self._server.client() as redis:
            flood.bytes_before = int(redis.info("memory")["used_memory"])
        async with (
            await Connections.open(Settings(redis_url=self._server.url()), client_name="judge") as connections,
            AsyncClient(self._api.url, timeout=30.0, patience=0.0) as client,
        ):
            began = time.monotonic()
            epoch = time.time()
            tasks: set[asyncio.Task[None]] = set()
            while (passed := time.monotonic() - began) < seconds:
                while flood.sent < passed * rate:
                    flood.sent += 1
                    task = asyncio.create_task(_submit(client, flood))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                self._look(flood)
                await asyncio.sleep(_TICK)
            await asyncio.gather(*tasks)
            await until(lambda: self._all_over(connections, flood), "all accepted jobs are over", _END_SECONDS)
        ended = [result.finished_at.timestamp() for result in flood.results.values() if result.finished_at]
        flood.throughput = sum(epoch <= at <= epoch + seconds for at in ended) / seconds
        return flood

    def _look(self, flood: Flood) -> None:
        with self._server.client() as redis:
            streams = [keys.jobs(0, "aplay", lane) for lane in keys.LANES]
            streams += [keys.inbox(0, f"w{i}", "aplay") for i in range(WORKERS)]
            # At once: a job that moves must not be counted twice.
            with redis.pipeline(transaction=True) as pipe:
                for stream in streams:
                    pipe.xlen(stream)
                flood.most_held = max(flood.most_held, sum(pipe.execute()))
            flood.bytes_most = max(flood.bytes_most, int(redis.info("memory")["used_memory"]))

    async def _all_over(self, connections: Connections, flood: Flood) -> bool:
        open_ones = [request_id for request_id in flood.accepted if request_id not in flood.results]
        for at in range(0, len(open_ones), _PAGE):
            some = open_ones[at : at + _PAGE]
            for request_id, found in zip(some, await steps.read(connections.partitions[0], some), strict=True):
                assert found is not None, f"{request_id} is lost"
                result = result_of(request_id, found)
                if result.final:
                    flood.results[request_id] = result
        return len(flood.results) == len(flood.accepted)


async def _submit(client: AsyncClient, flood: Flood) -> None:
    began = time.monotonic()
    try:
        flood.accepted.append(await client.submit("aplay", {"seconds": JOB_SECONDS}))
    except Refused as error:
        flood.refusals.append((time.monotonic() - began, error))


async def _measure(seconds: float, factor: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis", aof=True)
        server.start()
        scene = Scene(Path(folder) / "system", server)
        try:
            await scene.ready()
            await scene.flood(CAPABLE, 3.0)
            calm = await scene.flood(CAPABLE * 1.1, seconds)
            busy = await scene.flood(CAPABLE * factor, seconds)
        finally:
            scene.close()
            server.stop()
    print(f"the workers can do {CAPABLE:.0f} jobs/s; a backlog of {MAX_BACKLOG} is allowed; {seconds:g} s each")
    for name, flood in (("1.1 times that", calm), (f"{factor:g} times that", busy)):
        refused = sorted(took * 1000 for took, _ in flood.refusals) or [0.0]
        latencies = flood.latencies or [0.0]
        print(
            f"  {name:15} {flood.sent:6} sent {len(flood.accepted):6} accepted {flood.throughput:7.1f} done/s"
            f"   refused in ms p50 {refused[len(refused) // 2]:.1f} p99 {refused[len(refused) * 99 // 100]:.1f}"
            f"   latency s p50 {latencies[len(latencies) // 2]:.2f} max {latencies[-1]:.2f}"
            f"   held at most {flood.most_held}, memory +{(flood.bytes_most - flood.bytes_before) / 1e6:.1f} MB"
        )
    print(f"throughput under overload: {busy.throughput / calm.throughput:.0%} of that without")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=5.0)
    given = parser.parse_args()
    asyncio.run(_measure(given.seconds, given.factor))
