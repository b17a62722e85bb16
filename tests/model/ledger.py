"""The model: what the coordinator promises, in plain Python. How each step changes the place of each job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from harness.field import Taken
from harness.snapshot import Seen, Snapshot

MAX_ATTEMPTS: Final = 2
MAX_CRASHES: Final = 2
MAX_BACKLOG: Final = 10
LANES: Final = ("retry", "high", "normal", "low")


@dataclass
class Job:
    """What was asked for, and how it ended."""

    model: str
    lane: str
    late: bool
    """Its own deadline has passed: it may be retried, but never be started for the first time."""
    blob: bool
    allowed: int
    key: str | None = None
    final: bytes | None = None
    """The record of its outcome, which never changes."""


@dataclass
class Worker:
    """One worker id. `serving`: the models that it takes work of right now, as capacity and window."""

    state: str = "live"
    incarnation: str = "1"
    leased: bool = True
    blameless: bool = False
    offers: dict[str, tuple[int, int]] = field(default_factory=dict)
    serving: set[str] = field(default_factory=set)


class Handle(NamedTuple):
    """A job as a worker read it, once: it may have lost it since."""

    worker: str
    model: str
    job: Taken


class Place(NamedTuple):
    """Where a job is expected: any of some streams."""

    streams: tuple[str, ...]
    attempt: int
    crashed: tuple[str, ...] = ()
    read: bool = False


Expected = dict[str, Place | str]
"""Per job that a step touches its new place, or its final status."""


class Ledger:
    """All jobs and workers; `now` is the last snapshot, which agreed with it."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.handles: list[Handle] = []
        self.known_models: set[str] = set()
        self.dead: set[str] = set()
        """Ids of the jobs that lie among the dead letters."""
        self.due: set[str] = set()
        """Entries in `parked` whose time has come."""
        self.overdue: set[tuple[str, str]] = set()
        """Stream and entry of those that ran for too long."""
        self.unstarted: set[tuple[str, str]] = set()
        """Stream and entry of those that their worker has read, but marked as not started."""
        self.now = Snapshot({}, {}, {}, {}, set(), set(), set())

    def inbox(self, worker: str, model: str) -> dict[str, Seen]:
        return self.stream(f"inbox:{worker}:{model}")

    def stream(self, name: str) -> dict[str, Seen]:
        return {request_id: seen for request_id, seen in self.now.jobs.items() if seen.stream == name}

    def waiting(self, model: str) -> dict[str, Seen]:
        """The jobs in the model's lanes, in the order in which they are to be assigned."""
        return {i: seen for lane in LANES for i, seen in self.stream(f"jobs:{model}:{lane}").items()}

    def room(self, model: str, worker: str) -> int:
        """How many more jobs the worker may be given."""
        who = self.workers.get(worker)
        if who is None or not who.leased or model not in who.serving:
            return 0
        return max(0, who.offers[model][1] - len(self.inbox(worker, model)))

    def served(self, model: str) -> list[str]:
        return sorted(name for name, who in self.workers.items() if model in who.serving)

    def holds(self, handle: Handle) -> bool:
        seen = self.now.jobs.get(handle.job.request_id)
        return (
            seen is not None
            and seen.stream == f"inbox:{handle.worker}:{handle.model}"
            and seen.entry == handle.job.entry.decode()
            and seen.read
        )

    def expires(self, request_id: str, attempt: int) -> bool:
        return self.jobs[request_id].late and attempt == 1

    def back(self, request_id: str, attempt: int, crashed: tuple[str, ...]) -> Place | str:
        """A job given back: into its retry lane, unless its time is over."""
        if self.expires(request_id, attempt):
            return "expired"
        return self.into_lane(request_id, "retry", attempt, crashed)

    def into_lane(self, request_id: str, lane: str, attempt: int, crashed: tuple[str, ...]) -> Place:
        return Place((f"jobs:{self.jobs[request_id].model}:{lane}",), attempt, crashed)

    # Steps whose outcome needs more than a line

    def after_assign(self, model: str, workers: list[str], batch: int) -> tuple[Expected, int, int]:
        """What assign does: expected places, jobs moved, jobs expired. Who gets which is checked by the machine."""
        total = sum(self.room(model, worker) for worker in workers)
        streams = tuple(f"inbox:{worker}:{model}" for worker in workers if self.room(model, worker))
        expected: Expected = {}
        expired = 0
        for request_id, seen in list(self.waiting(model).items())[: min(batch, total)]:
            if self.expires(request_id, seen.attempt):
                expected[request_id] = "expired"
                expired += 1
            else:
                expected[request_id] = Place(streams, seen.attempt, seen.crashed)
        return expected, len(expected) - expired, expired

    def after_failure(self, handle: Handle, kind: str, delayed: bool) -> Place | str:
        request_id = handle.job.request_id
        seen, job = self.now.jobs[request_id], self.jobs[request_id]
        if kind == "expired":
            return "expired"
        if kind == "release":
            return self.into_lane(request_id, "retry", seen.attempt, seen.crashed)
        if kind == "final" or seen.attempt - len(seen.crashed) >= job.allowed:
            return "failed"
        if delayed:
            return Place(("parked",), seen.attempt + 1, seen.crashed)
        return self.into_lane(request_id, "retry", seen.attempt + 1, seen.crashed)

    def after_reclaim(self, name: str, retire: bool, count: int) -> tuple[Expected, Expected, int, bool]:
        """What one reclaim does: what must happen, of which unread jobs so many more, and whether there is more to do.

        Changes the worker as well.
        """
        who = self.workers.get(name)
        if who is None:
            return {}, {}, 0, False
        if who.leased and who.state in ("live", "draining") and not retire:
            return {}, {}, 0, False
        blaming = not retire and who.state != "retiring" and not who.blameless
        if retire:
            who.state, who.leased = "retiring", False
        elif who.state in ("live", "draining"):
            who.state = "lost"
        who.serving.clear()
        held = {i: s for model in who.offers for i, s in self.inbox(name, model).items()}
        delivered = [i for model in sorted(who.offers) for i, s in self.inbox(name, model).items() if s.read][:count]
        expected: Expected = {}
        for request_id in delivered:
            seen = held[request_id]
            if blaming and (seen.stream, seen.entry) not in self.unstarted:
                crashed = (*seen.crashed, name)
                expected[request_id] = (
                    "failed" if len(crashed) >= MAX_CRASHES else self.back(request_id, seen.attempt + 1, crashed)
                )
            else:
                expected[request_id] = self.back(request_id, seen.attempt, seen.crashed)
        unread = {i: self.back(i, s.attempt, s.crashed) for i, s in held.items() if not s.read}
        budget = max(0, count - len(delivered))
        if len(unread) <= budget:
            expected |= unread
            unread = {}
        left = len(held) - len(expected) - min(budget, len(unread))
        if left == 0 and who.state == "retiring":
            del self.workers[name]
        return expected, unread, budget, left > 0
