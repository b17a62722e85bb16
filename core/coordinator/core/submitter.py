"""Submitting: jobs handed in one by one or by the thousand, gathered into few calls of the submit step.

One job a call costs Redis eight times what a job in a batch of a hundred does, so jobs that are handed in while calls
are under way wait for the next one. At most two calls per partition are under way: more would only make each smaller.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from coordinator.core import keys, names, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import (
    BacklogFull,
    Conflict,
    CoordinatorError,
    InvalidInput,
    MemoryPressure,
    NotDurable,
    RedisUnavailable,
    UnknownModel,
)
from coordinator.core.records import DURABILITIES, NewJob
from coordinator.core.settings import Settings
from coordinator.core.steps import Receipt, Submission

_CALLS: Final = 2
_PER_CALL: Final = 256
_BYTES_PER_CALL: Final = 1 << 20
_MAX_ATTEMPTS: Final = 100
_encode: Final = msgspec.json.Encoder().encode


class _Options(msgspec.Struct, omit_defaults=True):
    delay: int = 0
    ttl: int = 0
    key: str = ""
    blob: bool = False


class _Waiting:
    """Some jobs, and who waits for their receipts."""

    __slots__ = ("future", "jobs", "size")

    def __init__(self, jobs: list[Submission], size: int, future: asyncio.Future[list[Receipt]]) -> None:
        self.jobs = jobs
        self.size = size
        """Bytes."""
        self.future = future


class _Lane:
    """The submissions to one partition at one level of durability."""

    def __init__(self, partition: Partition, settings: Settings, durability: str) -> None:
        self._partition = partition
        self._settings = settings
        self._durability = durability
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def put(self, jobs: list[Submission], size: int) -> asyncio.Future[list[Receipt]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Receipt]] = loop.create_future()
        self._queue.append(_Waiting(jobs, size, future))
        if not self._scheduled and len(self._calls) < _CALLS:
            self._scheduled = True
            loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._scheduled = False
        while self._queue and len(self._calls) < _CALLS:
            batch: list[_Waiting] = []
            count = size = 0
            while self._queue:
                first = self._queue[0]
                count += len(first.jobs)
                size += first.size
                if batch and (count > _PER_CALL or size > _BYTES_PER_CALL):
                    break
                batch.append(self._queue.popleft())
            task = asyncio.get_running_loop().create_task(self._call(batch))
            self._calls.add(task)
            task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if self._queue:
            self._flush()

    async def _call(self, batch: list[_Waiting]) -> None:
        jobs = batch[0].jobs if len(batch) == 1 else [job for waiting in batch for job in waiting.jobs]
        try:
            receipts = await self._submit(jobs)
        except BaseException as error:
            for waiting in batch:
                if not waiting.future.done():
                    failure = error if isinstance(error, Exception) else RedisUnavailable("the submission was cut off")
                    waiting.future.set_exception(failure)
            if isinstance(error, RedisUnavailable):
                # Redis was waited for long enough; those behind must not wait as long again, one call after the other.
                while self._queue:
                    behind = self._queue.popleft()
                    if not behind.future.done():
                        behind.future.set_exception(RedisUnavailable("it did not answer the calls before"))
            if not isinstance(error, Exception):
                raise
            return
        at = 0
        for waiting in batch:
            end = at + len(waiting.jobs)
            if not waiting.future.done():
                waiting.future.set_result(receipts[at:end])
            at = end

    async def _submit(self, jobs: list[Submission]) -> list[Receipt]:
        settings = self._settings
        receipts = await steps.submit(
            self._partition,
            jobs,
            lifetime_ms=int(settings.max_job_lifetime * 1000),
            retention_ms=int(settings.result_retention * 1000),
            max_backlog=settings.max_backlog,
            durability=self._durability,
            confirm_seconds=settings.durability_wait,
        )
        late = [i for i, receipt in enumerate(receipts) if receipt.outcome == "clock"]
        if late:
            # Our guess of Redis's time was far off; the reply has set it right, and these were not accepted.
            now_ms = self._partition.time.now_ms()
            bucket = now_ms // 1000 // keys.BUCKET_SECONDS
            again = []
            for i in late:
                partition, _, random = jobs[i].request_id.split("-")
                again.append(jobs[i]._replace(request_id=f"{partition}-{bucket}-{random}"))
            for i, receipt in zip(late, await self._submit(again), strict=True):
                receipts[i] = receipt
        return receipts


class Submitter:
    """Hands jobs to the submit step. One per process; safe for any number of concurrent callers of one event loop."""

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings
        self._lanes = {
            (partition.index, durability): _Lane(partition, settings, durability)
            for partition in connections.partitions
            for durability in DURABILITIES
        }
        self._heads: dict[tuple[str, str, int | None, int | None], bytes] = {}

    async def submit(self, job: NewJob) -> Receipt:
        """Submit one job. Returns once Redis has accepted it (or had accepted it before, under the same key).

        Raises `InvalidInput`, `UnknownModel`, `BacklogFull`, `MemoryPressure`, `Conflict`, `RedisUnavailable`.
        """
        if job.durability is not None and job.durability not in DURABILITIES:
            raise _no_such_durability()
        partition = self._connections.of_model(job.model)
        submission = self._submission(job, partition, None)
        lane = self._lanes[(partition.index, job.durability or self._settings.durability)]
        (receipt,) = await lane.put([submission], len(submission.tail) + len(submission.blob))
        error = self._error_of(receipt, job)
        if error is not None:
            raise error
        return receipt

    async def submit_many(self, jobs: Sequence[NewJob]) -> list[Receipt | CoordinatorError]:
        """Submit many jobs; per job, in order, its receipt or what was wrong with it. Never raises for one item."""
        answers: list[Receipt | CoordinatorError | None] = [None] * len(jobs)
        chunks: list[tuple[list[int], asyncio.Future[list[Receipt]]]] = []
        alike: dict[tuple[str, str | None], list[int]] = {}
        for i, job in enumerate(jobs):
            of_both = (job.model, job.durability)
            there = alike.get(of_both)
            if there is None:
                alike[of_both] = [i]
            else:
                there.append(i)
        for (model, wanted), members in alike.items():
            durability = wanted or self._settings.durability
            if durability not in DURABILITIES:
                for i in members:
                    answers[i] = _no_such_durability()
                continue
            partition = self._connections.of_model(model)
            lane = self._lanes[(partition.index, durability)]
            ids = names.request_ids(partition.index, partition.time.now_ms(), len(members))
            good: list[int] = []
            ready: list[Submission] = []
            size = 0
            for i, request_id in zip(members, ids, strict=True):
                try:
                    submission = self._submission(jobs[i], partition, request_id)
                except InvalidInput as error:
                    answers[i] = error
                    continue
                good.append(i)
                ready.append(submission)
                size += len(submission.tail) + len(submission.blob)
                if len(ready) >= _PER_CALL or size >= _BYTES_PER_CALL:
                    chunks.append((good, lane.put(ready, size)))
                    good, ready, size = [], [], 0
            if ready:
                chunks.append((good, lane.put(ready, size)))
        outcomes = await asyncio.gather(*(future for _, future in chunks), return_exceptions=True)
        for (members, _), outcome in zip(chunks, outcomes, strict=True):
            if isinstance(outcome, CoordinatorError):
                for i in members:
                    answers[i] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                for i, receipt in zip(members, outcome, strict=True):
                    accepted = receipt.outcome == "accepted"
                    answers[i] = receipt if accepted else self._error_of(receipt, jobs[i]) or receipt
        return [answer for answer in answers if answer is not None]

    def _submission(self, job: NewJob, partition: Partition, request_id: str | None) -> Submission:
        front = self._heads.get((job.model, job.priority, job.timeout_ms, job.max_attempts))
        if front is None:
            front = self._front(job)
        data = job.input
        if len(data) > self._settings.max_body_bytes:
            raise InvalidInput(f"The input has {len(data)} bytes; at most {self._settings.max_body_bytes} are allowed.")
        plain = len(data) <= self._settings.inline_bytes and not job.delay_ms
        if plain and job.deadline_ms is None and job.idempotency_key is None:
            if request_id is None:
                request_id = names.request_ids(partition.index, partition.time.now_ms(), 1)[0]
            return Submission(request_id, job.model, job.priority, b'%b,"input":%b}' % (front, data))
        return self._special(job, partition, request_id, front)

    def _special(self, job: NewJob, partition: Partition, request_id: str | None, front: bytes) -> Submission:
        settings = self._settings
        options = _Options()
        lifetime_ms = settings.max_job_lifetime * 1000
        if not 0 <= job.delay_ms < lifetime_ms:
            raise InvalidInput(f"The delay must be at least 0 and below {settings.max_job_lifetime:g} seconds.")
        options.delay = job.delay_ms
        if job.deadline_ms is not None:
            if not 0 < job.deadline_ms <= lifetime_ms:
                raise InvalidInput(f"The deadline must be above 0 and at most {settings.max_job_lifetime:g} seconds.")
            options.ttl = job.deadline_ms
        data = job.input
        blob = b""
        if job.idempotency_key is not None:
            # The id follows from the key alone, so that a resend finds the first; the fingerprint tells a different job.
            owner = hashlib.blake2b(job.idempotency_key.encode(), digest_size=10).digest()
            request_id = names.request_id_from(owner, partition.index, partition.time.now_ms())
            print_of = hashlib.blake2b(digest_size=8)
            print_of.update(b"%b|%d|%b|" % (front, job.delay_ms, str(job.deadline_ms).encode()))
            print_of.update(data)
            options.key = print_of.hexdigest()
            front += b',"key":"%b"' % options.key.encode()
        if len(data) > settings.inline_bytes:
            options.blob = True
            blob = data
            front += b',"input_bytes":%d' % len(data)
            data = b"null"
        if request_id is None:
            request_id = names.request_ids(partition.index, partition.time.now_ms(), 1)[0]
        tail = b'%b,"input":%b}' % (front, data)
        return Submission(request_id, job.model, job.priority, tail, _encode(options), blob)

    def _error_of(self, receipt: Receipt, job: NewJob) -> CoordinatorError | None:
        match receipt.outcome:
            case "accepted" | "duplicate":
                return None
            case "unknown":
                return UnknownModel(job.model)
            case "full":
                return BacklogFull(job.model)
            case "pressure":
                return MemoryPressure()
            case "conflict":
                return Conflict(receipt.request_id)
            case "unconfirmed":
                return NotDurable(job.durability or self._settings.durability)
        raise AssertionError(receipt)

    def _front(self, job: NewJob) -> bytes:
        """Check a job's head, and make the text of it that is the same for all such jobs."""
        names.check_model(job.model)
        if job.priority not in keys.PRIORITIES:
            raise InvalidInput(f"The priority must be one of {', '.join(keys.PRIORITIES)}.")
        longest = self._settings.max_job_lifetime
        if job.timeout_ms is not None and not 0 < job.timeout_ms <= longest * 1000:
            raise InvalidInput(f"The timeout must be above 0 and at most {longest:g} seconds.")
        if job.max_attempts is not None and not 0 < job.max_attempts <= _MAX_ATTEMPTS:
            raise InvalidInput(f"max_attempts must be from 1 to {_MAX_ATTEMPTS}.")
        front = b'"model":"%b"' % job.model.encode()
        if job.priority != "normal":
            front += b',"priority":"%b"' % job.priority.encode()
        if job.timeout_ms is not None:
            front += b',"timeout_ms":%d' % job.timeout_ms
        if job.max_attempts is not None:
            front += b',"max_attempts":%d' % job.max_attempts
        if len(self._heads) >= 10_000:
            self._heads.clear()
        self._heads[(job.model, job.priority, job.timeout_ms, job.max_attempts)] = front
        return front


def _no_such_durability() -> InvalidInput:
    return InvalidInput(f"The durability must be one of {', '.join(DURABILITIES)}.")
