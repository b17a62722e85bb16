"""What a producer sees of a job: the public form of its record."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from coordinator.core import records
from coordinator.core.records import Problem, decode_record
from coordinator.core.steps import Found


class Result(msgspec.Struct, omit_defaults=True):
    """A job as `GET /result/{request_id}` shows it. Times are UTC, ISO 8601 with milliseconds."""

    request_id: str
    status: str
    """queued, assigned, running, retrying; and final: succeeded, failed, cancelled, expired."""
    model: str
    attempts: int
    """How often the job was started, the run under way included."""
    submitted_at: datetime
    worker_id: str | None = None
    finished_at: datetime | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Problem | None = None
    dead_letter: str | None = None
    """Entry id in the dead-letter stream, of a job that failed for good."""
    retried_as: str | None = None
    """The request id under which its dead letter was submitted again."""
    crashed_workers: list[str] = []

    @property
    def final(self) -> bool:
        """The outcome will not change any more."""
        return self.status in records.FINAL


def result_of(request_id: str, found: Found) -> Result:
    """The public form of a record that was read."""
    record = decode_record(found.record)
    status, attempts, worker_id = record.status, record.attempts, record.worker_id
    if status == records.ASSIGNED:
        worker_id = record.at.split(":", 2)[1]
        if found.running:
            status = records.RUNNING
            attempts += 1
    output = record.output
    if found.output is not None:
        output = msgspec.Raw(found.output)
    return Result(
        request_id,
        status,
        record.model,
        attempts,
        _time(record.submitted_at),
        worker_id,
        None if record.finished_at is None else _time(record.finished_at),
        output,
        record.error,
        record.dead_letter,
        record.retried_as,
        record.crashed_workers,
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
