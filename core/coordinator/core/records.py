"""What travels and what is stored, as msgspec structs. All of it is JSON that a person can read in `redis-cli`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

QUEUED: Final = "queued"
ASSIGNED: Final = "assigned"
RUNNING: Final = "running"
RETRYING: Final = "retrying"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
FINAL: Final = frozenset((SUCCEEDED, FAILED, CANCELLED, EXPIRED))

DURABILITIES: Final = ("memory", "replicated", "fsync")
"""What must have confirmed a job before it counts as accepted: Redis's memory, a replica, the disk."""


class NewJob(msgspec.Struct, kw_only=True):
    """A job that a producer hands in. Times in ms. `input` is JSON text, passed through as it is."""

    model: str
    input: bytes
    priority: str = "normal"
    timeout_ms: int | None = None
    max_attempts: int | None = None
    delay_ms: int = 0
    deadline_ms: int | None = None
    """How long after submission the job must have started, else it expires."""
    idempotency_key: str | None = None
    durability: str | None = None
    """memory, replicated or fsync; None: as the deployment is set."""


class Job(msgspec.Struct, omit_defaults=True):
    """The `job` field of a stream entry: what the producer asked for, and when. Times in ms of Redis TIME.

    What the producer did not ask for is not in it; the model's or the deployment's defaults hold then. `input` comes
    last, so that a step can cut off the rest (the head) without reading the input. With `input_bytes`, the input is
    out of line, in the blob `in`, and `input` is null.
    """

    submitted_at: int
    model: str
    deadline_at: int | None = None
    priority: str = "normal"
    timeout_ms: int | None = None
    max_attempts: int | None = None
    key: str | None = None
    input_bytes: int = 0
    input: msgspec.Raw = msgspec.Raw(b"null")


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a job failed. `type` is a stable word: exception, bad_input, bad_output, timeout, crash, poison, …"""

    type: str
    message: str
    detail: str | None = None


class Record(msgspec.Struct, omit_defaults=True):
    """A job's record in the results hash: where it is, or how it ended. Times in ms of Redis TIME."""

    status: str
    submitted_at: int
    model: str
    at: str = ""
    """While not final: the stream (without its base) and the entry id in it, separated by a space."""
    attempts: int = 0
    """How often it was started before it came to where it is; final: how often in all."""
    worker_id: str | None = None
    finished_at: int | None = None
    deadline_at: int | None = None
    priority: str = "normal"
    timeout_ms: int | None = None
    max_attempts: int | None = None
    key: str | None = None
    input_bytes: int = 0
    output_bytes: int = 0
    dead_letter: str | None = None
    """Entry id in the dead-letter stream."""
    retried_as: str | None = None
    """The request id under which the dead letter was submitted again."""
    crashed_workers: list[str] = []
    error: Problem | None = None
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ModelOffer(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One model of a worker's registration. `capacity`: jobs it works on at once. `window`: jobs it may hold."""

    capacity: int = 1
    version: str | None = None
    timeout_ms: int | None = None
    window: int = 0


class WorkerView(msgspec.Struct):
    """A worker as Redis knows it. `state` is live, draining or lost."""

    worker_id: str
    state: str
    models: dict[str, ModelOffer]
    outstanding: dict[str, int]
    heartbeat_age_ms: int
    registered_at: int
    incarnation: str
    metadata: dict[str, Any]


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """One dead letter, as it lies in the dead-letter stream. `job.input` is null when it lies out of line."""

    request_id: str
    entry: str
    model: str
    reason: str
    attempts: int
    died_at: int
    worker_id: str | None
    error: Problem | None
    job: Job
    crashed_workers: list[str] = []


decode_job: Final = msgspec.json.Decoder(Job).decode
decode_record: Final = msgspec.json.Decoder(Record).decode
decode_problem: Final = msgspec.json.Decoder(Problem).decode
encode: Final = msgspec.json.Encoder().encode
