"""What happened in a campaign, and whether the system kept its promises in it: a pure function of what was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from harness.system import Execution

from coordinator.core.records import CANCELLED, EXPIRED, FAILED, FINAL, SUCCEEDED
from coordinator.core.results import Result


@dataclass(frozen=True)
class Accepted:
    """The system said that it has taken this submission."""

    at: float
    """Monotonic seconds."""
    n: int
    """The producer's own number; a submission that was sent several times has one number."""
    request_id: str
    kind: str = "plain"
    outcomes: frozenset[str] = frozenset((SUCCEEDED,))
    """How it may end, if it is not given up as poison."""
    max_attempts: int = 3


class Sight(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job as it was seen at some time. Of a job that is not over, only the status counts."""

    at: float
    request_id: str
    status: str
    attempts: int = 0
    worker: str = ""
    finished_at: float = 0.0
    """Seconds since the epoch, by Redis's clock."""
    n: int | None = None
    token: str = ""
    """Which run it was whose output this is."""
    error: str = ""
    crashed: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def outcome(self) -> tuple[object, ...]:
        """All that never changes once the job is over."""
        return (
            self.status,
            self.attempts,
            self.worker,
            self.finished_at,
            self.n,
            self.token,
            self.error,
            self.crashed,
        )


class _Output(msgspec.Struct):
    n: int
    token: str


def sight_of(at: float, result: Result) -> Sight:
    """A result as the history keeps it."""
    output = None
    if isinstance(result.output, msgspec.Raw):
        output = msgspec.json.decode(result.output, type=_Output)
    return Sight(
        at,
        result.request_id,
        result.status,
        result.attempts,
        result.worker_id or "",
        result.finished_at.timestamp() if result.finished_at else 0.0,
        output.n if output else None,
        output.token if output else "",
        result.error.type if result.error else "",
        tuple(result.crashed_workers),
    )


@dataclass
class History:
    """One campaign."""

    accepted: list[Accepted] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    """While it went on, in the order of time."""
    missing: list[tuple[float, str]] = field(default_factory=list)
    """When an accepted job was said not to exist."""
    ends: dict[str, Sight] = field(default_factory=dict)
    """What Redis itself says of each accepted job, when all is done."""
    executions: list[Execution] = field(default_factory=list)
    asked_to_stop: set[int] = field(default_factory=set)
    """Workers, by their process id, that were told to end: they may hand back what they could not finish."""
    share_an_id: set[int] = field(default_factory=set)
    """Workers, by their process id, beside which another one had the same worker id."""
    remains: list[str] = field(default_factory=list)
    """What is left in Redis that should not be."""
    max_crashes: int = 3

    @property
    def run_twice(self) -> int:
        """How many jobs were started more than once though the first run neither raised nor was to hang."""
        runs: dict[str, list[str]] = defaultdict(list)
        raised = {e.token for e in self.executions if e.event == "raised"}
        for e in self.executions:
            if e.event == "start" and e.token not in raised:
                runs[e.id].append(e.token)
        return sum(len(tokens) > 1 for tokens in runs.values())


def judge(history: History) -> list[str]:
    """Every promise that was broken, in words. Empty: none was."""
    return [*judge_lasting(history), *judge_outcomes(history)]


def judge_lasting(history: History) -> list[str]:
    """The promises that even a failover leaves: what was accepted is there, is one job, and comes to an end."""
    return [
        *_each_job_ends_once(history),
        *_submissions_are_one_job(history),
        *(f"left in Redis: {what}" for what in history.remains),
    ]


def judge_outcomes(history: History) -> list[str]:
    """Those that hold as long as Redis forgets nothing: an outcome stays, and is that of the run which it names."""
    return [*_outcomes_stay(history), *_runs_fit_outcomes(history), *_limits_hold(history)]


def _jobs(history: History) -> dict[str, Accepted]:
    return {accepted.request_id: accepted for accepted in history.accepted}


def _each_job_ends_once(history: History) -> Iterator[str]:
    for at, request_id in history.missing:
        yield f"lost: {request_id} was accepted, and at {at:.3f} nobody knew of it"
    for request_id, job in _jobs(history).items():
        end = history.ends.get(request_id)
        if end is None:
            yield f"lost: {request_id} ({job.kind}) has no record in the end"
        elif not end.final:
            yield f"lost: {request_id} ({job.kind}) is {end.status} in the end"
        elif end.status not in job.outcomes and end.error != "poison":
            yield f"wrong: {request_id} ({job.kind}) ended {end.status} {end.error}".rstrip()
        elif end.status == SUCCEEDED and end.n != job.n:
            yield f"wrong: {request_id} has the output of submission {end.n}, not of {job.n}"


def _outcomes_stay(history: History) -> Iterator[str]:
    first: dict[str, Sight] = {}
    for sight in sorted([*history.sights, *history.ends.values()], key=lambda sight: sight.at):
        before = first.get(sight.request_id)
        if before is not None and sight.outcome != before.outcome:
            yield f"changed: {sight.request_id} was {before.outcome}, and then {sight.outcome}"
        elif before is None and sight.final:
            first[sight.request_id] = sight


def _runs_fit_outcomes(history: History) -> Iterator[str]:
    runs = _by_job(history.executions)
    for request_id, end in history.ends.items():
        started = {e.token: e for e in runs[request_id] if e.event == "start"}
        done = {e.token for e in runs[request_id] if e.event == "done"}
        last = max((e.attempt for e in started.values()), default=0)
        if last > end.attempts and end.final:
            yield f"stale: {request_id} ended with attempt {end.attempts}, but attempt {last} was under way or over"
        if end.status == SUCCEEDED:
            run = started.get(end.token)
            if run is None or end.token not in done:
                yield f"made up: {request_id} succeeded by the run {end.token!r}, which nobody finished"
            elif (run.attempt, run.worker) != (end.attempts, end.worker):
                yield (
                    f"stale: {request_id} has the output of attempt {run.attempt} at {run.worker}, "
                    f"under the name of attempt {end.attempts} at {end.worker}"
                )
        elif end.status == EXPIRED and started and not end.attempts:
            yield f"wrong: {request_id} expired before it could start, and was started"


def _limits_hold(history: History) -> Iterator[str]:
    jobs = _jobs(history)
    runs = _by_job(history.executions)
    for request_id, end in history.ends.items():
        job = jobs[request_id]
        crashes = len(end.crashed)
        if crashes > history.max_crashes:
            yield f"limit: {request_id} took down {crashes} workers; {history.max_crashes} are the limit"
        # A job that succeeds or is cancelled does not tell its crashes.
        allowed = job.max_attempts + (crashes if end.status == FAILED else history.max_crashes)
        if end.attempts > allowed:
            yield f"limit: {request_id} was tried {end.attempts} times; {allowed} are allowed"
        if end.status == FAILED and end.error == "poison" and crashes < history.max_crashes:
            yield f"limit: {request_id} is called poison after {crashes} crashes"
        if end.status == CANCELLED and CANCELLED not in job.outcomes:
            yield f"wrong: {request_id} was cancelled by nobody"
        tries: dict[int, list[Execution]] = defaultdict(list)
        for e in runs[request_id]:
            if e.event == "start":
                tries[e.attempt].append(e)
        for attempt, same in tries.items():
            kept = [e for e in same if e.pid not in history.asked_to_stop | history.share_an_id]
            if len(kept) > 1:
                where = ", ".join(f"{e.worker} at {e.at:.3f}" for e in kept)
                yield f"twice: attempt {attempt} of {request_id} was run by {where}"


def _submissions_are_one_job(history: History) -> Iterator[str]:
    ids: dict[int, set[str]] = defaultdict(set)
    for accepted in history.accepted:
        ids[accepted.n].add(accepted.request_id)
    for e in history.executions:
        ids[e.n].add(e.id)
    for n, several in ids.items():
        if len(several) > 1:
            yield f"doubled: submission {n} became {', '.join(sorted(several))}"
    numbers: dict[str, set[int]] = defaultdict(set)
    for accepted in history.accepted:
        numbers[accepted.request_id].add(accepted.n)
    for request_id, several_n in numbers.items():
        if len(several_n) > 1:
            yield f"doubled: {request_id} stands for the submissions {sorted(several_n)}"


def _by_job(executions: Iterable[Execution]) -> dict[str, list[Execution]]:
    found: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        found[execution.id].append(execution)
    return found
