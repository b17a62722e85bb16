"""One partition moved by hand: every step with the arguments that a test does not care about filled in, ways to let
time pass without waiting for it, and a census that proves that each job is in exactly one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from coordinator.core import keys, names, steps
from coordinator.core.connection import Partition
from coordinator.core.records import FINAL, ModelOffer, Problem, Record, decode_record
from coordinator.core.steps import Completion, Failure, Submission

HOUR_MS: Final = 3_600_000
KEEP: Final = {"lifetime_ms": HOUR_MS, "retention_ms": HOUR_MS}
BURY: Final = {"lifetime_ms": HOUR_MS, "dead_retention_ms": HOUR_MS}


@dataclass(frozen=True)
class Taken:
    """A job as its worker got it."""

    entry: bytes
    request_id: str
    attempt: int
    crashed: tuple[str, ...]
    head: bytes
    input: Any

    def done(self, output: Any = 1, flags: bytes = b"") -> Completion:
        """What a worker hands in for it; with the flag `o` the output goes out of line."""
        data = msgspec.json.encode(output)
        tail = b'"attempts":%d,%b' % (self.attempt, self.head)
        if b"o" in flags:
            return Completion(
                self.entry, self.request_id.encode(), b'%b,"output_bytes":%d}' % (tail, len(data)), flags, data
            )
        return Completion(self.entry, self.request_id.encode(), b'%b,"output":%b}' % (tail, data), flags)


class Dealt(NamedTuple):
    """What an assign did with the jobs."""

    moved: int
    expired: int
    state: str


class Field:
    """A partition, and the worker's side of it. The model is `m` unless a test says otherwise."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.redis: Any = partition.redis
        self.p = partition.index

    async def now_ms(self) -> int:
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # Members

    async def register(
        self, worker: str = "w", incarnation: str = "1", *, models: Mapping[str, str] | None = None, **named: str
    ) -> bool:
        """Enter a worker; models as name="capacity:window", `m="8:16"` if none is named."""
        offers = {}
        for model, text in (models or named or {"m": "8:16"}).items():
            capacity, window = text.split(":")
            offers[model] = ModelOffer(capacity=int(capacity), window=int(window))
        return await steps.register(self.partition, worker, incarnation, offers, b"{}", lease_ms=HOUR_MS)

    async def end_lease(self, worker: str = "w") -> None:
        """Let the worker's lease pass."""
        await self.redis.zadd(keys.workers(self.p), {worker: 1}, xx=True)

    async def reclaim(self, worker: str = "w", **options: Any) -> steps.Reclaimed:
        options = {"max_crashes": 3, **BURY, **options}
        return await steps.reclaim(self.partition, worker, **options)

    async def overdue(self, worker: str = "w", model: str = "m", **options: Any) -> steps.Overdue:
        options = {"timeout_ms": 30_000, "grace_ms": 2_000, "max_attempts": 3, **BURY, **options}
        return await steps.overdue(self.partition, worker, model, **options)

    # Jobs

    def request_id(self, now_ms: int) -> str:
        return names.request_ids(self.p, now_ms, 1)[0]

    async def submission(
        self,
        model: str = "m",
        lane: str = "normal",
        *,
        request_id: str | None = None,
        head: str = "",
        data: bytes = b"0",
        blob: bytes = b"",
        **options: Any,
    ) -> Submission:
        """A job on its way; `head` is further text of its document, such as `"max_attempts":1`."""
        key = options.get("key")
        front = f'"model":"{model}"' + (f',"priority":"{lane}"' if lane != "normal" else "")
        front += (f",{head}" if head else "") + (f',"key":"{key}"' if key else "")
        if blob:
            options["blob"] = True
            front += f',"input_bytes":{len(blob)}'
            data = b"null"
        return Submission(
            request_id or self.request_id(await self.now_ms()),
            model,
            lane,
            front.encode() + b',"input":%b}' % data,
            msgspec.json.encode(options) if options else b"",
            blob,
        )

    async def submit(
        self, *jobs: Submission, max_backlog: int = 1000, lifetime_ms: int = HOUR_MS, retention_ms: int = HOUR_MS
    ) -> list[steps.Receipt]:
        return await steps.submit(
            self.partition, jobs, max_backlog=max_backlog, lifetime_ms=lifetime_ms, retention_ms=retention_ms
        )

    async def put(self, model: str = "m", lane: str = "normal", **options: Any) -> str:
        """Submit one job, which must be accepted; its id."""
        (receipt,) = await self.submit(await self.submission(model, lane, **options))
        assert receipt.outcome == "accepted", receipt
        return receipt.request_id

    async def put_many(self, count: int, model: str = "m", lane: str = "normal") -> list[str]:
        receipts = await self.submit(*[await self.submission(model, lane, data=b"%d" % i) for i in range(count)])
        assert {receipt.outcome for receipt in receipts} <= {"accepted"}
        return [receipt.request_id for receipt in receipts]

    async def assign(self, *workers: str, model: str = "m", batch: int = 256, lifetime_ms: int = HOUR_MS) -> Dealt:
        done = await steps.assign(self.partition, model, workers or ("w",), batch=batch, lifetime_ms=lifetime_ms)
        return Dealt(done.moved, done.expired, done.state)

    async def take(self, worker: str = "w", model: str = "m", count: int = 1000) -> list[Taken]:
        """Read new entries of an inbox, as the worker does."""
        inbox = keys.inbox(self.p, worker, model)
        rows = await self.redis.execute_command(
            "XREADGROUP", "GROUP", keys.INBOX_GROUP, worker, "COUNT", count, "STREAMS", inbox, ">"
        )
        return [taken(entry, flat) for _, entries in rows or [] for entry, flat in entries]

    async def given(self, worker: str = "w", model: str = "m", **options: Any) -> Taken:
        """A new job, assigned to the worker and read by it; nothing else may wait."""
        await self.put(model, **options)
        await self.assign(worker, model=model)
        (job,) = await self.take(worker, model)
        return job

    async def let_run(self, job: Taken, ms: int, worker: str = "w", model: str = "m") -> None:
        """Let `ms` pass since the job was read."""
        inbox = keys.inbox(self.p, worker, model)
        assert await self.redis.xclaim(inbox, keys.INBOX_GROUP, worker, 0, [job.entry], idle=ms, justid=True)

    async def complete(
        self, *done: Completion, worker: str = "w", model: str = "m", together: bool = False
    ) -> list[int]:
        return await steps.complete(self.partition, worker, model, done, together=together)

    async def fail(self, *failures: Failure, worker: str = "w", model: str = "m", **options: Any) -> list[str]:
        options = {"max_attempts": 3, **BURY, **options}
        return await steps.fail(self.partition, worker, model, failures, **options)

    async def fail_one(
        self, job: Taken, kind: str = "retry", delay_ms: int = 0, worker: str = "w", **options: Any
    ) -> str:
        (answer,) = await self.fail(
            Failure(job.entry, kind, delay_ms, Problem("exception", 'no "luck"')), worker=worker, **options
        )
        return answer

    async def buried(self, **options: Any) -> str:
        """The id of a new job that its worker `w` failed for good."""
        job = await self.given(**options)
        assert await self.fail_one(job, "final") == "dead"
        return job.request_id

    async def promote(self, **options: Any) -> steps.Promoted:
        return await steps.promote(self.partition, **{"lifetime_ms": HOUR_MS, **options})

    async def fall_due(self) -> None:
        """Let the time of everything that is delayed come."""
        for entry in await self.redis.zrange(keys.delayed(self.p), 0, -1):
            await self.redis.zadd(keys.delayed(self.p), {entry: 1}, xx=True)

    # Looking

    async def record(self, request_id: str) -> Record:
        raw = await self.raw_record(request_id)
        assert raw is not None, f"{request_id} has no record"
        return decode_record(raw)

    async def raw_record(self, request_id: str) -> bytes | None:
        bucket = names.parse_request_id(request_id, 1 << 14).bucket
        raw: bytes | None = await self.redis.hget(keys.results(self.p, bucket), request_id)
        return raw

    async def statuses(self, request_ids: Iterable[str]) -> list[str]:
        return [(await self.record(request_id)).status for request_id in request_ids]

    async def lane(self, lane: str = "normal", model: str = "m") -> list[str]:
        """The ids of the jobs in a lane, in its order."""
        return [fields[b"id"].decode() for _, fields in await self.redis.xrange(keys.jobs(self.p, model, lane))]

    async def inbox(self, worker: str = "w", model: str = "m") -> list[str]:
        """The ids of the jobs that a worker holds, in their order."""
        return [fields[b"id"].decode() for _, fields in await self.redis.xrange(keys.inbox(self.p, worker, model))]

    async def woken(self) -> set[str]:
        """The models that were woken; they are not any more."""
        woken = {raw.decode() for raw in await self.redis.zrange(keys.wake(self.p), 0, -1)}
        await self.redis.delete(keys.wake(self.p))
        return woken

    async def places(self) -> dict[str, list[tuple[str, dict[bytes, bytes]]]]:
        """Every job in a stream: its id → its places, each as a record would name it, and the entry's fields."""
        found: dict[str, list[tuple[str, dict[bytes, bytes]]]] = {}
        base = keys.base(self.p)
        streams = [
            key.decode()[len(base) :]
            async for kind in _each("jobs:*", "inbox:*", "parked")
            async for key in self.redis.scan_iter(match=_escaped(base) + kind, count=1000)
        ]
        for stream in streams:
            for entry, fields in await self.redis.xrange(base + stream):
                found.setdefault(fields[b"id"].decode(), []).append((f"{stream} {entry.decode()}", fields))
        return found

    async def census(self) -> dict[str, Record]:
        """Prove that each job is in exactly one place and its record says which; return all records by id."""
        base = keys.base(self.p)
        records: dict[str, Record] = {}
        async for key in self.redis.scan_iter(match=_escaped(base) + "results:*", count=1000):
            for request_id, raw in (await self.redis.hgetall(key)).items():
                records[request_id.decode()] = decode_record(raw)
        places = await self.places()
        for request_id, found in places.items():
            assert len(found) == 1, f"{request_id} is in {[place for place, _ in found]}"
            assert request_id in records, f"{request_id} in {found[0][0]} has no record"
        delayed = {entry.decode() for entry in await self.redis.zrange(keys.delayed(self.p), 0, -1)}
        parked = {place.split()[1] for found in places.values() for place, _ in found if place.startswith("parked ")}
        assert delayed == parked
        dead = {fields[b"id"].decode(): entry.decode() for entry, fields in await self.redis.xrange(keys.dead(self.p))}
        index = await self.redis.hgetall(keys.dead_index(self.p))
        assert dead == {request_id.decode(): entry.decode() for request_id, entry in index.items()}
        for request_id, record in records.items():
            if record.status in FINAL:
                assert request_id not in places, f"{request_id} is {record.status} and in {places[request_id][0][0]}"
                assert record.finished_at is not None
                assert not record.at
            else:
                assert request_id in places, f"{request_id} is {record.status} and nowhere"
                place, fields = places[request_id][0]
                assert record.at == place
                assert record.attempts == int(fields[b"attempt"]) - 1
                assert record.status in _STATUSES[place.split(":")[0].split()[0]]
            assert (request_id in dead) <= (record.status == "failed")
        await self._census_of_blobs(records, dead)
        return records

    async def _census_of_blobs(self, records: dict[str, Record], dead: dict[str, str]) -> None:
        base = keys.base(self.p)
        async for key in self.redis.scan_iter(match=_escaped(base) + "blob:*", count=1000):
            request_id, side = key.decode()[len(base) :].split(":")[1:]
            record = records[request_id]
            assert await self.redis.pttl(key) > 0, f"{key!r} stays for ever"
            if side == "in":
                assert record.status not in FINAL or request_id in dead, f"{key!r} is left of a {record.status} job"
            else:
                assert record.status == "succeeded"
        for request_id, record in records.items():
            if record.input_bytes and record.status not in FINAL:
                assert await self.redis.exists(keys.blob(self.p, request_id, "in")), f"{request_id} lost its input"


_STATUSES: Final[dict[str, Sequence[str]]] = {
    "jobs": ("queued", "retrying"),
    "parked": ("queued", "retrying"),
    "inbox": ("assigned",),
}


def taken(entry: bytes, flat: Sequence[bytes]) -> Taken:
    """An inbox entry as a worker understands it."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    head, _, data = fields[b"job"].partition(b',"input":')
    crashed = fields.get(b"crashed", b"").decode()
    return Taken(
        entry,
        fields[b"id"].decode(),
        int(fields[b"attempt"]),
        tuple(crashed.split(",")) if crashed else (),
        head[1:],
        msgspec.json.decode(data[:-1]),
    )


async def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until the async function `condition` says something true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.005)


async def _each(*items: str) -> Any:
    for item in items:
        yield item


def _escaped(base: str) -> str:
    return base.replace("{", "[{]").replace("}", "[}]")
