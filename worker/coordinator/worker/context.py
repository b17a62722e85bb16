"""`job`: what a handler may know about the job that it works on."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from coordinator.worker.deliveries import Call, Delivery

current: Final[ContextVar[Call]] = ContextVar("coordinator_call")
"""The call that runs in this thread or task."""


@dataclass(frozen=True)
class JobInfo:
    """One job of the running call."""

    id: str
    """The request id."""
    attempt: int
    """1 on the first try."""
    deadline: datetime
    """When its time limit is over (UTC, by this host's clock)."""


class JobContext:
    """The job that the running handler works on. Known inside a handler, in its thread, and in tasks that it starts."""

    @property
    def id(self) -> str:
        """The request id."""
        return _only().request_id.decode()

    @property
    def attempt(self) -> int:
        """1 on the first try."""
        return int(_only().attempt)

    @property
    def deadline(self) -> datetime:
        """When the time limit is over (UTC, by this host's clock); in a batch, the earliest."""
        call = _call()
        return _deadline(call, min(delivery.timeout for delivery in call.running))

    @property
    def batch(self) -> list[JobInfo]:
        """All jobs of the call, in the order of the inputs."""
        call = _call()
        return [
            JobInfo(delivery.request_id.decode(), int(delivery.attempt), _deadline(call, delivery.timeout))
            for delivery in call.running
        ]


def _call() -> Call:
    call = current.get(None)
    if call is None:
        raise RuntimeError("`job` is known only while a handler runs, in its own thread or task.")
    return call


def _only() -> Delivery:
    deliveries = _call().running
    if len(deliveries) != 1:
        raise RuntimeError("This call works on several jobs: look at `job.batch`.")
    return deliveries[0]


def _deadline(call: Call, timeout: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=call.started + timeout - time.monotonic())


job: Final = JobContext()
