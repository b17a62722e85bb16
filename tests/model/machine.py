"""Drives the steps on real Redis, and compares what they left with the ledger, job by job."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from harness.field import Field
from harness.snapshot import Seen, Snapshot, snapshot
from hypothesis.stateful import RuleBasedStateMachine
from model.ledger import MAX_CRASHES, Expected, Job, Ledger, Place

from coordinator.core.connection import Connections
from coordinator.core.records import FINAL, decode_record
from coordinator.core.settings import Settings

_T = TypeVar("_T")
MODELS: Final = ("m", "x")
WORKERS: Final = ("a", "b", "c")


class Machine(RuleBasedStateMachine):
    """One partition, emptied for each example. `url` says on which server."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.connections = self.do(
            Connections.open(Settings(redis_url=self.url, redis_patience=60), client_name="model")
        )
        self.partition = self.connections.partitions[0]
        self.field = Field(self.partition)
        self.redis: Any = self.partition.redis
        self.do(self.redis.flushdb())
        self.ledger = Ledger()

    def teardown(self) -> None:
        try:
            self.do(self.field.census())
            self.do(self._finish())
        finally:
            self.do(self.connections.close())
            self.loop.close()

    async def _finish(self) -> None:
        """All workers are gone and a good one comes: whatever happened before, every job ends, and nothing is left."""
        field = self.field
        for worker in WORKERS:
            await field.end_lease(worker)
            while (await field.reclaim(worker)).more:
                pass
        assert await field.register("good", models=dict.fromkeys(MODELS, "1000:1000"))
        await field.fall_due()
        await field.promote()
        for model in MODELS:
            while (await field.assign("good", model=model)).state == "more":
                pass
            jobs = await field.take("good", model)
            done = [job.done(flags=b"i" if self.ledger.jobs[job.request_id].blob else b"") for job in jobs]
            assert set(await field.complete(*done, worker="good", model=model)) <= {1}
        assert await field.places() == {}
        records = await field.census()
        assert set(records) == set(self.ledger.jobs)
        assert all(record.status in FINAL for record in records.values())

    def do(self, step: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(step)

    def look(self) -> Snapshot:
        buckets = {int(request_id.split("-")[1]) for request_id in self.ledger.jobs}
        return self.do(snapshot(self.redis, 0, MODELS, WORKERS, sorted(buckets)))

    def compare(self, expected: Expected, found: Snapshot | None = None) -> None:
        """Every job that a step was to touch is where it should be, every other one is untouched."""
        ledger, before, now = self.ledger, self.ledger.now, found or self.look()
        assert set(now.jobs) <= set(ledger.jobs)
        assert set(now.records) == set(ledger.jobs)
        for request_id, job in ledger.jobs.items():
            seen, raw = now.jobs.get(request_id), now.records[request_id]
            want = expected.get(request_id)
            if want is None:
                assert seen == before.jobs.get(request_id), request_id
                assert raw == before.records[request_id], request_id
            elif isinstance(want, Place):
                assert seen is not None, (request_id, want, raw)
                assert seen.stream in want.streams, (seen, want)
                assert (seen.attempt, seen.crashed, seen.read) == want[1:], (seen, want)
            else:
                assert job.final is None, f"{request_id} ended twice: {job.final!r}, then {raw!r}"
                assert decode_record(raw).status == want, (raw, want)
                job.final = raw
                if want == "failed":
                    ledger.dead.add(request_id)
            self._agree(request_id, job, seen, raw)
        assert set(now.dead) == ledger.dead
        for request_id, entry in now.dead.items():
            assert decode_record(now.records[request_id]).dead_letter == entry
        kept = {i for i, job in ledger.jobs.items() if job.blob and (job.final is None or i in ledger.dead)}
        assert now.blobs == kept
        ledger.now = now
        self._nothing_sleeps()

    def _agree(self, request_id: str, job: Job, seen: Seen | None, raw: bytes) -> None:
        """A job is in one place or it is over; its record says the same; and its counts are within their limits."""
        record = decode_record(raw)
        if job.final is not None:
            assert seen is None, f"{request_id} is over and in {seen}"
            assert raw == job.final, f"an outcome changed: {job.final!r} to {raw!r}"
            assert len(record.crashed_workers) <= MAX_CRASHES
            # Only a failure says how many of the attempts were crashes.
            crashes = len(record.crashed_workers) if record.status == "failed" else MAX_CRASHES - 1
            assert record.attempts <= job.allowed + crashes
            return
        assert seen is not None, f"{request_id} is lost: {raw!r}"
        assert record.at == seen.at
        assert record.attempts == seen.attempt - 1
        assert len(seen.crashed) < MAX_CRASHES
        assert seen.attempt - len(seen.crashed) <= job.allowed
        waiting = "retrying" if seen.attempt > 1 else "queued"
        assert record.status == ("assigned" if seen.stream.startswith("inbox:") else waiting)

    def _nothing_sleeps(self) -> None:
        """A model with waiting jobs and a worker with room is awake."""
        ledger = self.ledger
        for model in MODELS:
            if ledger.waiting(model) and any(ledger.room(model, worker) for worker in WORKERS):
                assert model in ledger.now.wake, f"'{model}' has work and room, and nobody was told"
