"""Every Redis key, one function each; `streams.md` tells them in the same order.

All keys of partition `p` start with `coord:{p}:`. The braces are a hash tag, so a partition lives in one slot of a Redis
Cluster and every step is legal there. The steps (Lua scripts) get that base as their only key and build the rest from
it by the same rules, from names that a request id, a model or a worker id carries.
"""

from __future__ import annotations

import zlib
from typing import Final

META: Final = "coord:meta"
"""hash, no TTL: schema version and number of partitions. Written by the first process to start, checked by every one."""

SCHEMA_VERSION: Final = 1
LANES: Final = ("retry", "high", "normal", "low")
"""The lanes of a model's backlog, in the order in which they are emptied."""
PRIORITIES: Final = ("high", "normal", "low")
"""The lanes that a producer may choose."""
JOBS_GROUP: Final = "dispatchers"
"""The consumer group on every jobs stream."""
INBOX_GROUP: Final = "worker"
"""The consumer group on every inbox stream; its one consumer is the worker id."""
BUCKET_SECONDS: Final = 300
"""The slice of time whose records share one results hash. Part of the schema: all processes must agree."""


def partition_of(model: str, partitions: int) -> int:
    """The partition that holds all jobs of `model`. Stable across processes and Python versions (CRC-32)."""
    return zlib.crc32(model.encode()) % partitions


def base(p: int) -> str:
    """What all keys of partition `p` begin with; the one key that every step is called with."""
    return f"coord:{{{p}}}:"


def jobs(p: int, model: str, lane: str) -> str:
    """stream, group `dispatchers`. Accepted and not yet assigned. Written by submit, promote, reclaim; read by assign."""
    return f"{base(p)}jobs:{model}:{lane}"


def inbox(p: int, worker: str, model: str) -> str:
    """stream, group `worker`. Assigned to that worker; its length is its outstanding work. Goes at retirement."""
    return f"{base(p)}inbox:{worker}:{model}"


def results(p: int, bucket: int) -> str:
    """hash, request id → JSON record. TTL: lifetime + retention after its last id was taken in. Written by every job step."""
    return f"{base(p)}results:{bucket}"


def workers(p: int) -> str:
    """sorted set, worker → lease deadline (ms, Redis TIME). Written by register, heartbeat; read by assign, reclaim."""
    return f"{base(p)}workers"


def worker(p: int, worker_id: str) -> str:
    """hash, a registration: incarnation, state, models, metadata. Goes at retirement, or some time after loss."""
    return f"{base(p)}worker:{worker_id}"


def serving(p: int, model: str) -> str:
    """hash, worker → `capacity:window`: who takes work of this model. Draining and lost workers are not in it."""
    return f"{base(p)}serving:{model}"


def models(p: int) -> str:
    """hash, model → when it was first registered (ms). A model not in it is unknown, and its jobs are refused."""
    return f"{base(p)}models"


def cursor(p: int) -> str:
    """hash, model → the place among the workers of the last call where round-robin goes on. Written by assign."""
    return f"{base(p)}cursor"


def delayed(p: int) -> str:
    """sorted set, parked entry id → due time in ms: retries in backoff and scheduled jobs. Emptied by promote."""
    return f"{base(p)}delayed"


def parked(p: int) -> str:
    """stream, no group: the entries that `delayed` points to."""
    return f"{base(p)}parked"


def dead(p: int) -> str:
    """stream, no group: dead letters with body, reason, attempts, last worker. Retention by the janitor."""
    return f"{base(p)}dead"


def dead_index(p: int) -> str:
    """hash, request id → entry id in `dead`: a dead letter outlives its record, and is still found by its id."""
    return f"{base(p)}dead:index"


def wake(p: int) -> str:
    """sorted set, model → when (ms): "this model may have work that could move". Popped by dispatchers (BZPOPMIN)."""
    return f"{base(p)}wake"


def starved(p: int) -> str:
    """set of models whose backlog waits for room. Written by assign; complete takes the model out and wakes it."""
    return f"{base(p)}starved"


def waiters(p: int) -> str:
    """hash, request id → `channel@expires_ms` (several, comma-separated): whom to tell of the outcome."""
    return f"{base(p)}waiters"


def notify(process: str) -> str:
    """pub/sub channel of one process that waits for outcomes, named by random hex. Told by whatever ends a job."""
    return f"coord:notify:{process}"


def pressure(p: int) -> str:
    """string with a TTL of seconds, there while Redis is close to its memory limit: submit refuses. Written by the janitor."""
    return f"{base(p)}pressure"


def blob(p: int, request_id: str, side: str) -> str:
    """string: a body (`in`) or result (`out`) over the inline limit. Goes with the job, or by its TTL."""
    return f"{base(p)}blob:{request_id}:{side}"


def audit(p: int) -> str:
    """hash, no TTL: what the last whole audit found, kind → how many, and `finished_at` (ms). Written by the auditor."""
    return f"{base(p)}audit"
