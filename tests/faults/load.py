"""The producers of a campaign: they submit all kinds of jobs, never give up on one, and note what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Unpack

from faults.history import Accepted, History, sight_of

from coordinator.client import JobResult
from coordinator.client.requests import Options
from coordinator.core.errors import InvalidState, NotFound, Refused
from coordinator.core.records import CANCELLED, EXPIRED, FAILED, SUCCEEDED

_PAUSE: Final = 0.05
_ONE_WAIT: Final = 2.0
_QUICK: Final = frozenset(("plain", "large", "twice"))
"""Kinds that are over soon when nothing is wrong: on them it shows that the system has recovered."""


class Way(Protocol):
    """A way to the coordinator: an API process, or Redis itself."""

    async def submit(
        self,
        model: str,
        input: Any,  # noqa: A002
        *,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> str: ...
    async def result(self, request_id: str, *, wait: float = 0.0) -> JobResult: ...
    async def cancel(self, request_id: str) -> None: ...


@dataclass(frozen=True)
class Plan:
    """One submission: what kind of job it is, and how it may end."""

    kind: str
    input: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    outcomes: frozenset[str] = frozenset((SUCCEEDED,))
    cancel_after: float | None = None
    """Seconds."""


def plan(dice: random.Random, *, poison: float = 0.001) -> Plan:
    """Draw a submission. `poison`: the share of jobs that kill every worker they come to."""
    if dice.random() < poison:
        return Plan("poison", {"crash": 99}, outcomes=frozenset((FAILED,)))
    options: dict[str, Any] = {"priority": dice.choice(("high", "normal", "normal", "low"))}
    seconds = dice.choice((0.0, 0.0, 0.01, 0.05))
    match dice.randrange(50):
        case 0 | 1 | 2:
            return Plan("slow", {"seconds": dice.uniform(0.5, 3.0)}, options)
        case 3 | 4:
            return Plan("flaky", {"fail": dice.choice((1, 2))}, options)
        case 5:
            return Plan("doomed", {"doomed": True}, options, frozenset((FAILED,)))
        case 6:
            return Plan("failing", {"fail": 99}, {**options, "max_attempts": 2}, frozenset((FAILED,)))
        case 7:
            # A second is little: a slow neighbour in its batch, a lost delivery or a pause may cost it the other attempts, too.
            either = frozenset((SUCCEEDED, FAILED))
            return Plan("hung", {"hang": 1}, {**options, "timeout_seconds": 1.0}, either)
        case 8 | 9:
            return Plan("delayed", {}, {**options, "delay_seconds": dice.uniform(0.1, 3.0)})
        case 10 | 11:
            deadline = dice.uniform(0.005, 0.1)
            return Plan("deadline", {}, {**options, "deadline_seconds": deadline}, frozenset((SUCCEEDED, EXPIRED)))
        case 12 | 13 | 14:
            outcomes = frozenset((SUCCEEDED, CANCELLED))
            return Plan("cancelled", {"seconds": dice.uniform(0.0, 2.0)}, options, outcomes, dice.uniform(0.0, 1.5))
        case 15:
            return Plan("gripping", {"grip": dice.uniform(0.1, 2.0)}, options)
        case 16 | 17 | 18:
            pad = dice.randrange(3000, 20_000)
            return Plan("large", {"stuffing": "x" * pad, "pad": dice.choice((0, pad))}, options)
        case 19 | 20:
            return Plan("twice", {"seconds": seconds}, options)
        case _:
            return Plan("plain", {"seconds": seconds}, options)


class Load:
    """Submits through any of several ways, as behind a load balancer, until it is told to stop."""

    def __init__(
        self, ways: Sequence[Way], history: History, seed: int, *, models: Sequence[str], poison: float = 0.001
    ) -> None:
        self.outstanding: dict[str, Accepted] = {}
        """Accepted, and no outcome seen yet."""
        self.refusals = 0
        self._ways = ways
        self._history = history
        self._seed = seed
        self._models = models
        self._poison = poison
        self._count = 0
        self._closing = False
        self._ended: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self, producers: int = 20, pause: float = 0.1) -> AsyncIterator[None]:
        """Submit all the time; at the end wait until every job is over."""
        tasks = [asyncio.create_task(self._produce(pause)) for _ in range(producers)]
        tasks.append(asyncio.create_task(self._look_again()))
        try:
            yield
            self._closing = True
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def recovered(self, since: float, seconds: float) -> bool:
        """Wait until the quick jobs that were accepted before `since` are over; False if they are not, in that time."""
        deadline = time.monotonic() + seconds
        while any(job.at < since and job.kind in _QUICK for job in self.outstanding.values()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _produce(self, pause: float) -> None:
        while not self._closing:
            self._count += 1
            n = self._count
            dice = random.Random(self._seed * 1_000_003 + n)
            plan_of = plan(dice, poison=self._poison)
            model = dice.choice(self._models)
            senders = 2 if plan_of.kind == "twice" else 1
            ids = await asyncio.gather(*(self._submit(n, plan_of, model, dice) for _ in range(senders)))
            if plan_of.cancel_after is not None:
                await asyncio.sleep(plan_of.cancel_after)
                await self._cancel(ids[0], dice)
            await self._follow(ids[0], dice)
            await asyncio.sleep(dice.uniform(0, 2 * pause))

    async def _submit(self, n: int, plan_of: Plan, model: str, dice: random.Random) -> str:
        key = f"{self._seed}-{n}"
        while True:
            try:
                request_id = await dice.choice(self._ways).submit(
                    model, {"n": n, **plan_of.input}, idempotency_key=key, **plan_of.options
                )
            except Refused:
                self.refusals += 1
                await asyncio.sleep(_PAUSE)
                continue
            job = Accepted(
                time.monotonic(),
                n,
                request_id,
                plan_of.kind,
                plan_of.outcomes,
                plan_of.options.get("max_attempts", 3),
            )
            self._history.accepted.append(job)
            self.outstanding[request_id] = job
            return request_id

    async def _cancel(self, request_id: str, dice: random.Random) -> None:
        while True:
            try:
                await dice.choice(self._ways).cancel(request_id)
            except InvalidState:
                return
            except NotFound:
                self._history.missing.append((time.monotonic(), request_id))
                return
            except Refused:
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _follow(self, request_id: str, dice: random.Random) -> None:
        """Look until the job is over."""
        while not await self._look(request_id, dice, _ONE_WAIT):
            await asyncio.sleep(_PAUSE)
        self._ended.append(request_id)
        self.outstanding.pop(request_id, None)

    async def _look_again(self) -> None:
        """Look at jobs that are over: they must stay as they are."""
        dice = random.Random(self._seed)
        while not self._closing:
            if self._ended:
                await self._look(dice.choice(self._ended), dice, 0.0)
            await asyncio.sleep(_PAUSE)

    async def _look(self, request_id: str, dice: random.Random, wait: float) -> bool:
        """Whether the job is over, as far as can be seen."""
        try:
            result = await dice.choice(self._ways).result(request_id, wait=wait)
        except Refused:
            return False
        except NotFound:
            self._history.missing.append((time.monotonic(), request_id))
            return True
        sight = sight_of(time.monotonic(), result)
        self._history.sights.append(sight)
        return sight.final
