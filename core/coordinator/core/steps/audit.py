"""The steps of the audit: each proves a small part of the data, atomically, and mends it if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from coordinator.core.connection import Partition
from coordinator.core.scripts import script

_AUDIT_STREAM = script("audit_stream")
_AUDIT_RECORDS = script("audit_records")
_AUDIT_DEAD = script("audit_dead")
_AUDIT_DELAYED = script("audit_delayed")
_AUDIT_WORKERS = script("audit_workers")
_AUDIT_INBOXES = script("audit_inboxes")
_AUDIT_BLOBS = script("audit_blobs")


class Finding(NamedTuple):
    """One thing that is not as it must be."""

    kind: str
    request_id: str
    """Empty where no job is concerned, or none can be named."""
    place: str


class Audited(NamedTuple):
    """What one step of the audit saw. `cursor`: where to go on; empty at the end."""

    found: list[Finding]
    cursor: str
    looked: int


async def audit_stream(
    partition: Partition, stream: str, *, last_ms: int, cursor: str = "", count: int = 100, repair: bool = False
) -> Audited:
    """Each entry of a stream (jobs, inbox or parked, without its base) is where its job's record says that it is.

    Entries made after `last_ms` are not looked at.
    """
    return _read(await partition.run(_AUDIT_STREAM, [stream, cursor, last_ms, count, int(repair)]))


async def audit_records(
    partition: Partition, bucket: str, *, cursor: str = "", count: int = 100, keep_ms: int, repair: bool = False
) -> Audited:
    """Each record of a bucket that is not final names an entry that is there."""
    return _read(await partition.run(_AUDIT_RECORDS, [bucket, cursor or "0", count, int(repair), keep_ms]))


async def audit_dead(
    partition: Partition, side: str, *, cursor: str = "", count: int = 100, repair: bool = False
) -> Audited:
    """Dead letters and their index agree. `side`: letters or index, whichever is gone through."""
    start = "" if side == "letters" else "0"
    return _read(await partition.run(_AUDIT_DEAD, [side, cursor or start, count, int(repair)]))


async def audit_delayed(partition: Partition, *, cursor: str = "", count: int = 100, repair: bool = False) -> Audited:
    """Each delay has its parked entry. (That each parked entry has its delay is the stream's part.)"""
    return _read(await partition.run(_AUDIT_DELAYED, [cursor or "0", count, int(repair)]))


async def audit_workers(partition: Partition, workers: Sequence[str], *, repair: bool = False) -> Audited:
    """Each of these workers has a registration and a lease, or neither."""
    return _read(await partition.run(_AUDIT_WORKERS, [int(repair), *workers]))


async def audit_inboxes(partition: Partition, inboxes: Sequence[tuple[str, str]], *, repair: bool = False) -> Audited:
    """Each of these inboxes (worker, model) belongs to a registered worker that serves the model."""
    return _read(await partition.run(_AUDIT_INBOXES, [int(repair), *(part for inbox in inboxes for part in inbox)]))


async def audit_blobs(partition: Partition, blobs: Sequence[tuple[str, str]], *, repair: bool = False) -> Audited:
    """Each of these blobs (request id, side) belongs to a job that needs it."""
    return _read(await partition.run(_AUDIT_BLOBS, [int(repair), *(part for blob in blobs for part in blob)]))


def _read(reply: Any) -> Audited:
    words = [bytes(word).decode(errors="replace") for word in reply[0]]
    found = [Finding(*words[at : at + 3]) for at in range(0, len(words), 3)]
    return Audited(found, bytes(reply[1]).decode(), int(reply[2]))
