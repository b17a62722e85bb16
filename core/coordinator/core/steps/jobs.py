"""The steps of a job's life: submit, read, assign, complete, fail, cancel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coordinator.core.connection import Partition
from coordinator.core.records import Problem, encode
from coordinator.core.scripts import script

_SUBMIT = script("submit")
_READ = script("read")
_ASSIGN = script("assign")
_COMPLETE = script("complete")
_FAIL = script("fail")
_CANCEL = script("cancel")
_HELD = script("held")
_REBALANCE = script("rebalance")
_NO_REASON = Problem("unknown", "The worker did not say why.")


class Submission(NamedTuple):
    """One job on its way into its lane."""

    request_id: str
    model: str
    lane: str
    tail: bytes
    """The job document after its `{"submitted_at":…,`, ending in `,"input":…}`; submit writes the front."""
    options: bytes = b""
    """Empty, or JSON: `delay` (ms), `ttl` (ms until it must have started), `key` (fingerprint), `blob` (true)."""
    blob: bytes = b""
    """With `options.blob`: the input, to be kept out of line."""


class Receipt(NamedTuple):
    """What submit did with one job."""

    request_id: str
    outcome: str
    """accepted, duplicate, conflict (key used for another request), full, unknown (model), pressure, clock (id too old),
    unconfirmed (it is there, but not known to be as durable as was asked for)."""
    workers_away: bool = False


_OUTCOMES = {
    b"d": "duplicate",
    b"c": "conflict",
    b"f": "full",
    b"u": "unknown",
    b"p": "pressure",
    b"o": "clock",
}


async def submit(
    partition: Partition,
    jobs: Sequence[Submission],
    *,
    lifetime_ms: int,
    retention_ms: int,
    max_backlog: int,
    durability: str = "memory",
    confirm_seconds: float = 1.0,
) -> list[Receipt]:
    """Accept jobs, or say per job why not; receipts in the order of `jobs`. At most 500 a call.

    With a `durability` of replicated or fsync, what would be accepted is unconfirmed when that is not heard of within
    `confirm_seconds`.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for i, job in enumerate(jobs):
        alike = (job.model, job.lane)
        there = groups.get(alike)
        if there is None:
            groups[alike] = [i]
        else:
            there.append(i)
    args: list[str | bytes | int] = [lifetime_ms, retention_ms, max_backlog]
    order: list[int] = []
    for (model, lane), members in groups.items():
        args += (model, lane, len(members))
        args += [jobs[i].request_id for i in members]
        order += members
        for i in members:
            _, _, _, tail, options, blob = jobs[i]
            args += (options, tail)
            if blob:
                args.append(blob)
    confirmed = True
    if durability == "memory":
        reply = await partition.run(_SUBMIT, args)
    else:
        reply, confirmed = await partition.run_confirmed(_SUBMIT, args, durability, confirm_seconds)
    partition.time.learn(int(reply[0]))
    first = 2 + int(reply[1])
    away = {bytes(m).decode() for m in reply[2:first]}
    if away:
        receipts = [Receipt(job.request_id, "accepted", job.model in away) for job in jobs]
    else:
        receipts = [Receipt(job.request_id, "accepted") for job in jobs]
    for at in range(first, len(reply), 3):
        i = order[int(reply[at])]
        known = bytes(reply[at + 2]).decode()
        receipts[i] = Receipt(known or jobs[i].request_id, _OUTCOMES[reply[at + 1]], jobs[i].model in away)
    if not confirmed:
        taken = ("accepted", "duplicate")
        return [r._replace(outcome="unconfirmed") if r.outcome in taken else r for r in receipts]
    return receipts


class Found(NamedTuple):
    """A job's record as read, with what is not in it."""

    record: bytes
    """JSON of `records.Record`."""
    running: bool
    """The entry was delivered to the worker that `at` names."""
    output: bytes | None
    """The output, when it is kept out of line."""


async def read(
    partition: Partition, request_ids: Sequence[str], *, channel: str = "", wait_ms: int = 0
) -> list[Found | None]:
    """Read records; with a `channel`, whoever finishes a job that is not final yet tells that channel, for `wait_ms`."""
    reply = await partition.run(_READ, [channel, wait_ms, *request_ids])
    rows = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    return [None if record is None else Found(record, running == 1, output) for record, running, output in rows]


class Assigned(NamedTuple):
    """What one assign did."""

    moved: int
    expired: int
    state: str
    """more: call again. empty: nothing waits. starved: work waits, but no worker has room."""
    serving: int
    """How many workers serve the model: whoever counted differently should ask who they are."""


async def assign(
    partition: Partition, model: str, candidates: Sequence[str], *, batch: int, lifetime_ms: int
) -> Assigned:
    """Deal up to `batch` waiting jobs round-robin to those of `candidates` (at most 100) that are live and have room."""
    reply = await partition.run(_ASSIGN, [model, batch, lifetime_ms, *candidates])
    return Assigned(reply[0], reply[1], bytes(reply[2]).decode(), reply[3])


class Completion(NamedTuple):
    """One finished job."""

    entry: bytes
    request_id: bytes
    tail: bytes
    """The record after its `finished_at`: `"attempts":…,<head>,"output":…}`."""
    flags: bytes = b""
    """`i`: the input lies in a blob, to be dropped. `o`: `output` is to be kept as a blob."""
    output: bytes = b""


async def complete(
    partition: Partition, worker: str, model: str, done: Sequence[Completion], *, together: bool = False
) -> list[int]:
    """Write outcomes, fenced by inbox entry. Per job 1: written; 0: stale, nothing touched; 2: this was done before.

    `together`: their entries stood side by side when they were read, and are in that order; removing them is cheaper then.
    """
    args: list[str | bytes] = [worker, model, "s" if together else ""]
    if any(one.flags for one in done):
        args[2] = "fs" if together else "f"
        for entry, request_id, tail, flags, output in done:
            args += (entry, request_id, tail, flags)
            if b"o" in flags:
                args.append(output)
    else:
        for one in done:
            args += one[:3]
    return list(await partition.run(_COMPLETE, args))


class Failure(NamedTuple):
    """One job that its worker could not finish."""

    entry: bytes
    kind: str
    """retry: an attempt is used up. final: no use in trying again. release: handed back, no attempt used.
    expired: its deadline passed before it was started."""
    delay_ms: int
    problem: Problem | None = None


async def fail(
    partition: Partition,
    worker: str,
    model: str,
    failures: Iterable[Failure],
    *,
    max_attempts: int,
    lifetime_ms: int,
    dead_retention_ms: int,
) -> list[str]:
    """Per failure what became of the job: retrying, dead, released, expired, or stale (it was not this worker's any more)."""
    args: list[str | bytes | int] = [worker, model, max_attempts, lifetime_ms, dead_retention_ms]
    for entry, kind, delay_ms, problem in failures:
        args += (entry, kind, delay_ms, encode(problem or _NO_REASON))
    return [bytes(r).decode() for r in await partition.run(_FAIL, args)]


class Cancelled(NamedTuple):
    """What cancel found. `outcome`: cancelled, final (too late) or unknown; `before`: the status that the job had."""

    outcome: str
    before: str


async def cancel(partition: Partition, request_id: str) -> Cancelled:
    """End a job wherever it is. Whoever runs it finds out by `held`, and can't complete it any more."""
    reply = await partition.run(_CANCEL, [request_id])
    return Cancelled(bytes(reply[0]).decode(), bytes(reply[1]).decode())


async def held(partition: Partition, worker: str, model: str, entries: Sequence[bytes]) -> list[bytes]:
    """Which of the entries that this worker works on are not its own any more."""
    return list(await partition.run(_HELD, [worker, model, *entries]))


class Rebalanced(NamedTuple):
    """What one rebalance did, and how much work the workers had."""

    moved: int
    outstanding: int


async def rebalance(
    partition: Partition, model: str, candidates: Sequence[str], *, count: int = 256, stuck_after_ms: int = 1000
) -> Rebalanced:
    """Move unread jobs from busy workers to those with a free slot, among `candidates` (at most 100)."""
    reply = await partition.run(_REBALANCE, [model, count, stuck_after_ms, *candidates])
    return Rebalanced(reply[0], reply[1])
