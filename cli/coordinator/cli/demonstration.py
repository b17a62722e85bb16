"""What `coordinator demo` does with a coordinator that is up: real jobs, a real loss, and the account of it.

Images of handwritten digits go in as jobs, a few at a time, so that all workers stay busy and none of them is done
before the others begin. In the middle, one worker is killed while it works. In the end every job must have one outcome.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from coordinator.cli.child import Child
from coordinator.client import AsyncClient, CoordinatorError, JobResult
from coordinator.core import records

MODEL: Final = "digits"
_PER_REQUEST: Final = 16
_IN_FLIGHT: Final = 128
"""Enough for three workers of 32 each, and some that wait."""
_PATIENCE: Final = 60.0
"""Seconds after which a job without an outcome counts as lost, and no more are handed in."""


@dataclass
class Account:
    """What became of the jobs. Latencies are from submission to outcome, by Redis's clock."""

    accepted: int = 0
    refused: list[CoordinatorError] = field(default_factory=list)
    results: dict[int, JobResult] = field(default_factory=dict)
    """By the image's place; a job that is not in it is lost."""
    seconds: float = 0.0
    killed: str | None = None
    held: int = 0
    """How many jobs the killed worker ran when it died."""


@dataclass(frozen=True)
class Summary:
    """The account in figures, as `--json` prints it."""

    accepted: int
    succeeded: int
    failed: int
    lost: int
    retried: int
    accuracy: float
    per_worker: dict[str, int]
    seconds: float
    jobs_per_second: float
    latency_ms: dict[str, float]


class Demonstration:
    """Runs all `images` through the model; `advance` is told each time a job is done."""

    def __init__(self, client: AsyncClient, images: Sequence[Sequence[float]], advance: Callable[[], None]) -> None:
        self._client = client
        self._images = images
        self._advance = advance
        self._room = asyncio.Semaphore(_IN_FLIGHT)
        self._flying: dict[int, str] = {}
        self._lost = 0
        self._half_done = asyncio.Event()
        self.account = Account()

    async def run(self, victim: Child | None = None) -> Account:
        """Submit everything, wait for everything; kill `victim`, a worker, when half is done."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as group:
            if victim is not None:
                group.create_task(self._kill(victim))
            async with asyncio.TaskGroup() as following:
                await self._submit(following)
            self._half_done.set()
        self.account.seconds = loop.time() - begin
        return self.account

    async def _submit(self, following: asyncio.TaskGroup) -> None:
        for places in _chunks(len(self._images), _PER_REQUEST):
            for _ in places:
                await self._room.acquire()
            if self._lost:
                return
            answers = await self._client.submit_many(MODEL, [self._images[i] for i in places])
            for i, answer in zip(places, answers, strict=True):
                if isinstance(answer, CoordinatorError):
                    self.account.refused.append(answer)
                    self._room.release()
                else:
                    self.account.accepted += 1
                    self._flying[i] = answer
                    following.create_task(self._follow(i, answer))

    async def _follow(self, i: int, request_id: str) -> None:
        try:
            self.account.results[i] = await self._client.wait(request_id, timeout=_PATIENCE)
        except CoordinatorError:
            self._lost += 1
        finally:
            del self._flying[i]
            self._room.release()
            self._advance()
            if self._lost or len(self.account.results) * 2 >= len(self._images):
                self._half_done.set()

    async def _kill(self, victim: Child) -> None:
        """Kill the worker at a moment when it certainly runs jobs: stop it, look, and let it go on if it does not."""
        await self._half_done.wait()
        while self._flying and not self.account.held:
            if await self._running_on(victim.name):
                victim.signal(signal.SIGSTOP)
                # What it sent before it stood still may just be arriving: only the second look counts.
                for _ in range(2):
                    self.account.held = await self._running_on(victim.name)
                if not self.account.held:
                    victim.signal(signal.SIGCONT)
            await asyncio.sleep(random.uniform(0.01, 0.05))
        victim.signal(signal.SIGKILL)
        self.account.killed = victim.name

    async def _running_on(self, worker_id: str) -> int:
        """How many jobs the worker runs right now."""
        states = await asyncio.gather(*(self._client.result(request_id) for request_id in self._flying.values()))
        return sum(state.worker_id == worker_id and state.status == records.RUNNING for state in states)


def summary(account: Account, digits: Sequence[int]) -> Summary:
    """The figures. The accuracy is that on the images at odd places, which the model has not learned from."""
    results = account.results
    good = {i: result for i, result in results.items() if result.status == records.SUCCEEDED}
    unseen = range(1, len(digits), 2)
    right = sum(1 for i in unseen if i in good and good[i].value() == digits[i])
    latencies = sorted(
        (result.finished_at - result.submitted_at).total_seconds() * 1000
        for result in results.values()
        if result.finished_at is not None
    )
    return Summary(
        accepted=account.accepted,
        succeeded=len(good),
        failed=len(results) - len(good),
        lost=account.accepted - len(results),
        retried=sum(1 for result in results.values() if result.attempts > 1),
        accuracy=round(right / len(unseen), 4),
        per_worker=dict(sorted(Counter(result.worker_id or "none" for result in good.values()).items())),
        seconds=round(account.seconds, 3),
        jobs_per_second=round(len(results) / account.seconds, 1),
        latency_ms={f"p{share}": round(_percentile(latencies, share), 1) for share in (50, 99)},
    )


def _percentile(values: Sequence[float], share: int) -> float:
    return values[min(len(values) - 1, len(values) * share // 100)] if values else 0.0


def _chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


to_document = msgspec.to_builtins
