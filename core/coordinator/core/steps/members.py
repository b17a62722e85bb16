"""The steps of a worker's life: register, heartbeat, drain; and what is done when it is lost or too slow."""

from __future__ import annotations

from typing import NamedTuple

from coordinator.core.connection import Partition
from coordinator.core.records import ModelOffer, encode
from coordinator.core.scripts import script

_REGISTER = script("register")
_HEARTBEAT = script("heartbeat")
_DRAIN = script("drain")
_RECLAIM = script("reclaim")
_OVERDUE = script("overdue")
_FORGET = script("forget")


async def register(
    partition: Partition,
    worker: str,
    incarnation: str,
    models: dict[str, ModelOffer],
    metadata: bytes,
    *,
    lease_ms: int,
) -> bool:
    """Enter a worker. False: an earlier life of this id still holds work; reclaim it, then call again."""
    args: list[str | bytes | int] = [worker, incarnation, lease_ms, metadata, encode(models)]
    for name, offer in models.items():
        args += (name, offer.capacity, offer.window)
    reply = await partition.run(_REGISTER, args)
    partition.time.learn(int(reply[1]))
    return bool(reply[0])


async def heartbeat(partition: Partition, worker: str, incarnation: str, *, lease_ms: int, taking: bool = True) -> str:
    """Renew a lease. Answers live, draining, superseded (another life has the id) or unknown (register again).

    `taking=False`: the worker's loop makes no progress; the lease is kept, but no new work is given.
    An empty `incarnation` is whoever has the id now.
    """
    reply = await partition.run(_HEARTBEAT, [worker, incarnation, lease_ms, int(taking)])
    partition.time.learn(int(reply[1]))
    return bytes(reply[0]).decode()


async def drain(partition: Partition, worker: str) -> bool:
    """Give the worker no more work. False: there is no such worker."""
    return bool(await partition.run(_DRAIN, [worker]))


class Reclaimed(NamedTuple):
    """What one reclaim did. `more`: call again."""

    requeued: int
    dead: int
    more: bool


async def reclaim(
    partition: Partition,
    worker: str,
    *,
    retire: bool = False,
    count: int = 128,
    max_crashes: int,
    lifetime_ms: int,
    dead_retention_ms: int,
) -> Reclaimed:
    """Take back what a lost or replaced worker holds, `count` entries at most; with `retire`, of any worker, and end it.

    A live worker's work is not touched unless `retire` is set.
    """
    args: list[str | int] = [worker, int(retire), count, max_crashes, lifetime_ms, dead_retention_ms]
    reply = await partition.run(_RECLAIM, args)
    return Reclaimed(reply[0], reply[1], bool(reply[2]))


class Overdue(NamedTuple):
    """What one overdue did. `cursor`: where to go on; empty at the end."""

    requeued: int
    dead: int
    cursor: str


async def overdue(
    partition: Partition,
    worker: str,
    model: str,
    *,
    cursor: str = "",
    count: int = 100,
    timeout_ms: int,
    grace_ms: int,
    max_attempts: int,
    lifetime_ms: int,
    dead_retention_ms: int,
) -> Overdue:
    """Take away what a live worker has worked on for longer than the job's time limit (or `timeout_ms`) plus grace."""
    args: list[str | int] = [
        worker,
        model,
        cursor,
        count,
        timeout_ms,
        grace_ms,
        max_attempts,
        lifetime_ms,
        dead_retention_ms,
    ]
    reply = await partition.run(_OVERDUE, args)
    return Overdue(reply[0], reply[1], bytes(reply[2]).decode())


async def forget(partition: Partition, *, retention_ms: int) -> int:
    """Remove registrations of workers that have been lost for long and hold nothing. Returns how many went."""
    return int(await partition.run(_FORGET, [retention_ms]))
