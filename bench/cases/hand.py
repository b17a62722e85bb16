"""The steps by hand, in the benchmark's own process, where a whole deployment would blur what is measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from machine import Machine

from coordinator.core import keys, names, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.records import ModelOffer
from coordinator.core.settings import Settings
from coordinator.core.steps import Completion, Submission

HOUR_MS: Final = 3_600_000
CALL: Final = 256
"""Jobs per call of a step, as the system itself does it."""
_INPUT: Final = b'"%b"' % (b"x" * 94)
"""Makes a job of 150 bytes."""


@asynccontextmanager
async def partition_of(m: Machine) -> AsyncIterator[Partition]:
    async with await Connections.open(Settings(redis_url=m.url), client_name="bench") as connections:
        yield connections.partitions[0]


async def submit(p: Partition, model: str, count: int) -> None:
    seconds, _ = await p.redis.time()
    tail = b'"model":"%b","input":%b}' % (model.encode(), _INPUT)
    for at in range(0, count, CALL):
        ids = names.request_ids(p.index, int(seconds) * 1000, min(CALL, count - at))
        jobs = [Submission(request_id, model, "normal", tail) for request_id in ids]
        receipts = await steps.submit(p, jobs, lifetime_ms=HOUR_MS, retention_ms=HOUR_MS, max_backlog=10**9)
        if any(receipt.outcome != "accepted" for receipt in receipts):
            raise SystemExit(f"bench: a job was not accepted: {receipts[0].outcome}")


async def register(p: Partition, worker: str, models: Sequence[str], window: int) -> None:
    offers = {model: ModelOffer(capacity=window, window=window) for model in models}
    await steps.register(p, worker, "1", offers, b"{}", lease_ms=HOUR_MS)


async def assign_all(p: Partition, model: str, workers: Sequence[str]) -> None:
    while (await steps.assign(p, model, workers, batch=Settings().assign_batch, lifetime_ms=HOUR_MS)).moved:
        pass


async def read(p: Partition, worker: str, model: str, block_ms: int | None = None) -> list[Any]:
    """Entries of the worker's inbox; none if there are none, or none came within `block_ms`."""
    wait = () if block_ms is None else ("BLOCK", block_ms)
    rows = await p.redis.execute_command(
        "XREADGROUP",
        *("GROUP", keys.INBOX_GROUP, worker, "COUNT", CALL, *wait),
        *("STREAMS", keys.inbox(p.index, worker, model), ">"),
    )
    return list(rows[0][1]) if rows else []


async def complete(p: Partition, worker: str, model: str, entries: Sequence[Any]) -> None:
    done = []
    for entry, flat in entries:
        head = flat[-1][1 : flat[-1].index(b',"input":')]
        done.append(Completion(entry, flat[1], b'"attempts":1,%b,"output":1}' % head))
    if set(await steps.complete(p, worker, model, done, together=True)) - {1}:
        raise SystemExit("bench: an outcome was refused")


async def finish(p: Partition, worker: str, model: str) -> int:
    """Read and complete all that the worker has."""
    done = 0
    while entries := await read(p, worker, model):
        await complete(p, worker, model, entries)
        done += len(entries)
    return done
