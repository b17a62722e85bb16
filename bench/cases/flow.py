"""The way of a job through a whole deployment: Producer → dispatcher → one worker, and what each process pays for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import yardstick
from figures import Figure, Scale, costs
from machine import Machine, machine, per_job, until

_DONE_SECONDS: Final = 120.0
_IDLE_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 1.5
_SMALL: Final = 150
_LARGE: Final = 8192


class Drive(NamedTuple):
    """What a number of jobs took: jobs/s, and CPU us per job by process."""

    rate: float
    us: dict[str, float]


@contextmanager
def deployment(target: str, *, aof: bool = False, size: int = _SMALL) -> Iterator[Machine]:
    """Redis, an API, a dispatcher and one worker, warmed up by some jobs."""
    with machine(aof=aof) as m:
        m.dispatcher()
        m.worker(target)
        drive(m, 4_000, size)
        yield m


def drive(m: Machine, count: int, size: int, *models: str) -> Drive:
    """Send `count` jobs of `size` bytes through; from the first submission until the last outcome is written."""
    records, before = m.records(), m.cpu()
    told = m.tool("produce.py", "jobs", str(count), str(size), *models)
    until(lambda: m.outstanding() == 0, "all jobs are done", _DONE_SECONDS, pause=0.01)
    seconds = time.time() - told["begin"]
    us = per_job(before, m.cpu(), count)
    us["producer"] = told["cpu"] / count * 1e6
    kept = m.records() - records
    if kept != count:
        raise SystemExit(f"bench: {count} jobs were submitted, and {kept} have a record")
    return Drive(count / seconds, us)


def batch(scale: Scale) -> list[Figure]:
    """150-byte jobs and a batch handler that does nothing, beside redis-benchmark; then a dispatcher with nothing to do."""
    with deployment("handlers:batch") as m:
        beside = yardstick.xadd(m.redis, m.port)
        m.watch_calls()
        done = drive(m, scale(80_000), _SMALL)
        calls = m.longest_calls()
        figures = [Figure("end to end, 150 B, batch handler", done.rate, "jobs/s", ">=55000")]
        if beside:
            figures.append(Figure("redis-benchmark XADD", beside.per_second, "requests/s"))
            figures.append(Figure("end to end / XADD", done.rate / beside.per_second, "", ">=0.65"))
            figures.append(Figure("redis CPU per XADD", beside.redis_us, "us"))
        figures.append(Figure("redis CPU per job, whole life", done.us["redis"], "us", "<=14"))
        figures.append(Figure("dispatcher CPU per job", done.us["dispatcher"], "us", "<=1"))
        figures.append(Figure("longest assign call, all at once", calls.get("assign", 0.0), "ms", "<=2"))
        time.sleep(_SETTLE_SECONDS)
        before = m.cpu()["dispatcher"]
        time.sleep(_IDLE_SECONDS)
        idle = (m.cpu()["dispatcher"] - before) / _IDLE_SECONDS * 100
        figures.append(Figure("idle dispatcher", idle, "% of a core", "<=0.5"))
        return figures + costs("150 B, batch handler", done.us)


def plain(scale: Scale) -> list[Figure]:
    """The same with a plain handler, one job a call."""
    with deployment("handlers:plain") as m:
        done = drive(m, scale(40_000), _SMALL)
    return [Figure("end to end, plain handler", done.rate, "jobs/s", ">=25000"), *costs("plain handler", done.us)]


def asynchronous(scale: Scale) -> list[Figure]:
    """The same with an async handler, one job a call."""
    with deployment("handlers:asynchronous") as m:
        done = drive(m, scale(40_000), _SMALL)
    return [Figure("end to end, async handler", done.rate, "jobs/s", ">=25000"), *costs("async handler", done.us)]


def large(scale: Scale) -> list[Figure]:
    """8 KB jobs, which lie out of line."""
    with deployment("handlers:batch", size=_LARGE) as m:
        done = drive(m, scale(25_000), _LARGE)
    return [Figure("end to end, 8 KB", done.rate, "jobs/s", ">=20000"), *costs("8 KB, batch handler", done.us)]
