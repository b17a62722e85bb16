"""The audit: walk all keys and prove that every job that is not final is in exactly one place, and nothing is left over.

It looks at a small part at a time, each in one atomic step, so a system that runs gives no false alarms: every step of a
job writes its place and its record at once, and whoever looks in between sees both as they were or both as they are.

The entries come before the records. An entry whose record points elsewhere is the job's true place if nothing is there;
only a record that no entry belongs to, then, stands for a job that Redis lost.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec

from coordinator.core import keys, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.settings import Settings
from coordinator.core.steps import Audited

_T = TypeVar("_T")
_CHUNK: Final = 100
"""Entries or records a step: well below 2 ms of Redis's time, with bodies of the inline limit."""
_SCAN: Final = 500
_BLOB: Final = re.compile(r"blob:([0-9]+-[0-9]+-\w+):(in|out)")

KINDS: Final = {
    "record_without_entry": (
        "no stream holds this job any more",
        "taken up again if its input lies in a blob, or else failed as lost",
    ),
    "record_elsewhere": ("the job is here, but its record names a place where nothing is", "record put right"),
    "entry_without_record": ("the job is here, but has no record", "record made again"),
    "entry_without_bucket": ("the job is here, but the time that its record is kept for is over", "entry removed"),
    "entry_of_finished_job": ("the job is here, but has its outcome already", "entry removed"),
    "entry_in_two_places": ("the job is here and where its record says", "this entry removed"),
    "input_missing": ("the job is here, but its input is gone", "failed as lost"),
    "malformed_entry": ("this entry is no job of ours, and would stop whoever reads it", "entry removed"),
    "malformed_record": ("this record can't be read", "record removed"),
    "bucket_without_end": ("these records would be kept for ever", "given their end"),
    "parked_without_delay": ("the job is parked, but would never fall due", "due now"),
    "delay_without_parked": ("a delay points to a parked job that is not there", "delay removed"),
    "dead_letter_without_index": ("the dead letter can't be found by its request id", "index put right"),
    "dead_letter_twice": ("the job has another dead letter", "this one removed"),
    "dead_index_without_letter": ("the index names a dead letter that is not there", "removed from the index"),
    "worker_without_lease": ("the worker is registered, but nobody would notice its end", "given a lease that is over"),
    "lease_without_worker": ("a lease of a worker that is not registered", "lease removed"),
    "malformed_worker": ("this registration can't be read", "removed"),
    "orphan_inbox": ("the inbox of a worker that is not registered", "worker entered as lost, its jobs are taken back"),
    "inbox_not_served": ("the inbox of a model that its worker does not serve", "its jobs are taken back"),
    "orphan_blob": ("no job needs this blob", "blob removed"),
}
"""Per kind of finding what is wrong, and what `repair` does about it."""


class Finding(msgspec.Struct, omit_defaults=True):
    """One thing that is not as it must be."""

    kind: str
    partition: int
    place: str
    request_id: str = ""
    mended: bool = False

    @property
    def problem(self) -> str:
        return KINDS[self.kind][0]

    @property
    def repair(self) -> str:
        return KINDS[self.kind][1]


class Report(msgspec.Struct):
    """What an audit saw. `looked`: how many of each part."""

    looked: dict[str, int]
    findings: list[Finding]
    seconds: float


class Seen(NamedTuple):
    """What one step of a walk saw of a part: entries, records, delays, dead_letters, workers, inboxes, blobs."""

    part: str
    looked: int
    findings: list[Finding]


async def audit(connections: Connections, settings: Settings, *, repair: bool = False) -> Report:
    """Walk all partitions, one step after another. Raises `RedisUnavailable`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    looked: dict[str, int] = {}
    findings: list[Finding] = []
    for partition in connections.partitions:
        async for seen in walk(partition, settings, repair=repair):
            looked[seen.part] = looked.get(seen.part, 0) + seen.looked
            findings += seen.findings
    return Report(looked, findings, round(loop.time() - began, 3))


async def walk(partition: Partition, settings: Settings, *, repair: bool = False) -> AsyncGenerator[Seen, None]:
    """Walk a partition; whoever asks for the next part decides how slowly."""
    streams, buckets, inboxes, workers = await _names(partition)
    relinked: set[str] = set()

    def seen(part: str, audited: Audited) -> Seen:
        findings = []
        for kind, request_id, place in audited.found:
            if kind == "record_elsewhere":
                relinked.add(request_id)
            elif kind == "record_without_entry" and request_id in relinked:
                continue  # said already: the job is elsewhere
            findings.append(Finding(kind, partition.index, place, request_id, repair))
        return Seen(part, audited.looked, findings)

    seconds, micros = await partition.patiently(partition.redis.time)
    last_ms = int(seconds) * 1000 + int(micros) // 1000
    for stream in streams:
        async for audited in _all(partial(steps.audit_stream, partition, stream, last_ms=last_ms, repair=repair)):
            yield seen("entries", audited)
    keep_ms = int((settings.max_job_lifetime + settings.result_retention) * 1000)
    for bucket in buckets:
        async for audited in _all(partial(steps.audit_records, partition, bucket, keep_ms=keep_ms, repair=repair)):
            yield seen("records", audited)
    async for audited in _all(partial(steps.audit_delayed, partition, repair=repair)):
        yield seen("delays", audited)
    for side in ("letters", "index"):
        async for audited in _all(partial(steps.audit_dead, partition, side, repair=repair)):
            yield seen("dead_letters", audited)._replace(looked=audited.looked if side == "letters" else 0)
    for some in _chunks(workers):
        yield seen("workers", await steps.audit_workers(partition, some, repair=repair))
    for pairs in _chunks(inboxes):
        yield seen("inboxes", await steps.audit_inboxes(partition, pairs, repair=repair))
    async for names in _scan(partition, "blob:"):
        blobs = [(match[1], match[2]) for match in map(_BLOB.fullmatch, names) if match]
        for pairs in _chunks(blobs):
            yield seen("blobs", await steps.audit_blobs(partition, pairs, repair=repair))


async def _all(step: Callable[..., Awaitable[Audited]]) -> AsyncIterator[Audited]:
    cursor = ""
    while True:
        audited = await step(cursor=cursor, count=_CHUNK)
        yield audited
        cursor = audited.cursor
        if not cursor:
            return


async def _names(partition: Partition) -> tuple[list[str], list[str], list[tuple[str, str]], list[str]]:
    """What the partition holds now: streams, buckets, inboxes (worker and model), workers."""
    streams, buckets, inboxes, workers = ["parked"], [], [], []
    async for names in _scan(partition, ""):
        for name in names:
            family, _, rest = name.partition(":")
            if family == "jobs":
                streams.append(name)
            elif family == "inbox":
                streams.append(name)
                worker, _, model = rest.partition(":")
                inboxes.append((worker, model))
            elif family == "results":
                buckets.append(rest)
            elif family == "worker":
                workers.append(rest)
    leases = await partition.patiently(lambda: partition.redis.zrange(keys.workers(partition.index), 0, -1))
    return (
        list(dict.fromkeys(streams)),
        sorted(set(buckets)),
        sorted(set(inboxes)),
        sorted({*workers, *(raw.decode() for raw in leases)}),
    )


async def _scan(partition: Partition, prefix: str) -> AsyncIterator[list[str]]:
    """The names of all keys that begin with `prefix`, without the base, each once in a page at most."""
    base, cursor = keys.base(partition.index), 0
    while True:
        page = partial(partition.redis.scan, cursor, match=f"{base}{prefix}*", count=_SCAN)
        cursor, found = await partition.patiently(page)
        yield list({key.decode()[len(base) :] for key in found})
        if cursor == 0:
            return


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for at in range(0, len(items), _CHUNK):
        yield items[at : at + _CHUNK]
