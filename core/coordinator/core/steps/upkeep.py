"""The steps that time and operators ask for: promote, expire, dead letters, rouse."""

from __future__ import annotations

from typing import NamedTuple

from coordinator.core.connection import Partition
from coordinator.core.scripts import script

_PROMOTE = script("promote")
_EXPIRE = script("expire")
_RETRY_DEAD = script("retry_dead")
_REMOVE_DEAD = script("remove_dead")
_PRUNE_DEAD = script("prune_dead")
_ROUSE = script("rouse")
_WAITING = script("waiting")


class Promoted(NamedTuple):
    """What one promote did. `next_in_ms`: when the next is due, or -1 when nothing is delayed."""

    moved: int
    next_in_ms: int


async def promote(partition: Partition, *, count: int = 256, lifetime_ms: int) -> Promoted:
    """Move delayed work that has fallen due to its lane."""
    reply = await partition.run(_PROMOTE, [count, lifetime_ms])
    return Promoted(reply[0], reply[1])


async def waiting(partition: Partition) -> list[tuple[str, str]]:
    """The lanes that have jobs in them, each as its model and its name."""
    reply = [bytes(name).decode() for name in await partition.run(_WAITING, [])]
    return list(zip(reply[::2], reply[1::2], strict=True))


class Expired(NamedTuple):
    """What one expire did. `cursor`: where to go on; empty at the end."""

    expired: int
    cursor: str


async def expire(
    partition: Partition, model: str, lane: str, *, cursor: str = "", count: int = 500, lifetime_ms: int
) -> Expired:
    """End the jobs of a lane whose deadline passed before they were started."""
    reply = await partition.run(_EXPIRE, [model, lane, cursor, count, lifetime_ms])
    return Expired(reply[0], bytes(reply[1]).decode())


async def retry_dead(
    partition: Partition, request_id: str, new_id: str, *, lifetime_ms: int, retention_ms: int
) -> str | None:
    """Submit a dead letter again, as the new job `new_id`. Returns the new job's id, or None: no such dead letter.

    Called again for the same dead letter it returns the id that the first call made.
    """
    reply = await partition.run(_RETRY_DEAD, [request_id, new_id, lifetime_ms, retention_ms])
    return bytes(reply).decode() if reply else None


async def remove_dead(partition: Partition, request_id: str) -> bool:
    """Throw a dead letter away. False: there is none with that id."""
    return bool(await partition.run(_REMOVE_DEAD, [request_id]))


async def prune_dead(partition: Partition, *, retention_ms: int, max_dead: int, count: int = 500) -> int:
    """Remove dead letters that are too old, or too many. Returns how many went; call again at `count`."""
    return int(await partition.run(_PRUNE_DEAD, [retention_ms, max_dead, count]))


async def rouse(partition: Partition) -> int:
    """Wake every model that has both waiting jobs and a worker; how many. Makes up for wakes that were lost."""
    return int(await partition.run(_ROUSE, []))
