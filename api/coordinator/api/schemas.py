"""What comes in and what goes out, as msgspec structs: they decode, they encode, and OpenAPI is made from them.

Durations are in seconds. What only documents (`extra_json_schema`) is checked elsewhere: names by the core, upper limits
against the deployment's settings.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from coordinator.core.membership import Placement
from coordinator.core.records import Problem as JobProblem
from coordinator.core.views import ModelView

MODEL_SCHEMA: Final = {
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$",
    "description": "A model's name.",
    "examples": ["digits"],
}
WORKER_SCHEMA: Final = {
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
    "description": "A worker's id.",
    "examples": ["gpu-7-k3mz5xqa"],
}
REQUEST_SCHEMA: Final = {
    "type": "string",
    "description": "A job's request id, as the submission answered it.",
    "examples": ["0-5873291-abcdefghij234567"],
}

Model = Annotated[str, Meta(extra_json_schema=MODEL_SCHEMA)]
WorkerId = Annotated[str, Meta(extra_json_schema=WORKER_SCHEMA)]
RequestId = Annotated[str, Meta(extra_json_schema=REQUEST_SCHEMA)]
Positive = Annotated[float, Meta(gt=0)]
Lane = Literal["high", "normal", "low"]
Durability = Literal["memory", "replicated", "fsync"]


class InferenceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A job: which model to run on which input."""

    model: Model
    input: Annotated[msgspec.Raw, Meta(description="Any JSON; it reaches the worker as it is.", examples=[[0.0, 5.0]])]
    priority: Annotated[Lane, Meta(description="Higher lanes are emptied first.")] = "normal"
    timeout_seconds: Annotated[
        Positive | None, Meta(description="Time limit of one attempt. Default: the model's, else the deployment's.")
    ] = None
    max_attempts: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None, Meta(description="How often to try. Default: the deployment's.")
    ] = None
    delay_seconds: Annotated[
        float, Meta(ge=0, description="Do not start it earlier than so long after submission.")
    ] = 0
    deadline_seconds: Annotated[
        Positive | None, Meta(description="If it has not started so long after submission, it expires.")
    ] = None
    durability: Annotated[
        Durability | None,
        Meta(
            description="What must have confirmed the job before it counts as accepted: Redis's memory, a replica, or the "
            "disk (Redis 7.2 or later). Default: the deployment's."
        ),
    ] = None


class Accepted(msgspec.Struct, omit_defaults=True):
    """The job is accepted: from now on it reaches exactly one final outcome."""

    request_id: RequestId
    status: Literal["queued"]
    model: Model
    workers_away: Annotated[bool, Meta(description="There, and true: no live worker serves the model right now.")] = (
        False
    )


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 problem document. Some types carry further members, such as `limit`, `model` or `request_id`."""

    type: Annotated[str, Meta(description="Stable; a path on this server that says what it means.")]
    title: str
    status: int
    detail: str
    retry_after: Annotated[float | None, Meta(description="Seconds after which trying again makes sense.")] = None
    errors: Annotated[
        list[dict[str, str]] | None,
        Meta(description="What is wrong (`detail`) and where: `pointer` (JSON pointer), `parameter` or `header`."),
    ] = None


class BatchProblem(msgspec.Struct):
    """Why one job of a batch was not accepted."""

    problem: ProblemDocument


class BatchAnswer(msgspec.Struct):
    """Per job of the batch, in its order, what became of it."""

    results: Annotated[
        list[Any],
        Meta(
            extra_json_schema={
                "items": {
                    "anyOf": [{"$ref": "#/components/schemas/Accepted"}, {"$ref": "#/components/schemas/BatchProblem"}]
                }
            }
        ),
    ]


class ModelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How a worker serves one model."""

    capacity: Annotated[int, Meta(ge=1, le=100_000, description="Jobs that it works on at once.")] = 1
    version: Annotated[Annotated[str, Meta(max_length=200)] | None, Meta(description="Shown to operators.")] = None
    timeout_seconds: Annotated[
        Positive | None, Meta(description="Time limit of one attempt, for jobs that bring none.")
    ] = None
    window: Annotated[
        Annotated[int, Meta(ge=1, le=400_000)] | None,
        Meta(description="Jobs that it may hold, running or not; at least the capacity, by default twice as many."),
    ] = None


class RegisterRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A worker that offers to serve models."""

    models: dict[Model, ModelRequest] | list[Model]
    worker_id: Annotated[
        WorkerId | None, Meta(description="By default a new, unique one. An id that is alive is taken over.")
    ] = None
    metadata: Annotated[dict[str, Any], Meta(description="Shown to operators: version, host, device, labels …")] = {}
    incarnation: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9]{1,64}$")] | None,
        Meta(
            description="Of a worker that registers again: the one it was given, so that it does not supersede itself."
        ),
    ] = None


class WorkerSettings(msgspec.Struct):
    """What a worker has to know to behave as the deployment does."""

    inline_bytes: int
    max_attempts: int
    max_job_lifetime_seconds: float
    dead_retention_seconds: float
    backoff_base_seconds: float
    backoff_cap_seconds: float


class Registered(msgspec.Struct):
    """The worker is registered: where it reads its work, and how often it must be heard of."""

    worker_id: WorkerId
    incarnation: str
    lease_seconds: float
    heartbeat_seconds: float
    redis_url: Annotated[
        str, Meta(description="Without a password (unless it is advertised with one): the worker brings its own.")
    ]
    partitions: int
    models: dict[str, Placement]
    settings: WorkerSettings


class HeartbeatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who is alive."""

    incarnation: Annotated[
        str, Meta(max_length=64, description="As given at registration; empty: whoever has the id.")
    ] = ""


class WorkerState(msgspec.Struct):
    """The worker's state after the request. A draining worker finishes what it holds and gets nothing new."""

    worker_id: WorkerId
    state: Literal["live", "draining"]


class Served(msgspec.Struct, omit_defaults=True):
    """One model as one worker serves it."""

    capacity: int
    outstanding: Annotated[int, Meta(description="Jobs that it holds, running or not.")]
    window: int
    version: str | None = None
    timeout_seconds: float | None = None


class WorkerInfo(msgspec.Struct):
    """A worker, as Redis knows it."""

    worker_id: str
    state: Literal["live", "draining", "lost"]
    models: dict[str, Served]
    heartbeat_age_seconds: float
    registered_at: datetime
    metadata: dict[str, Any]


class Workers(msgspec.Struct):
    """Workers, by id."""

    workers: list[WorkerInfo]


class Models(msgspec.Struct):
    """All models ever registered, by name."""

    models: dict[str, ModelView]


class DeadLetterInfo(msgspec.Struct, omit_defaults=True):
    """A job that failed for good, kept so that a person can look at it and try it again."""

    request_id: str
    model: str
    reason: str
    attempts: int
    submitted_at: datetime
    died_at: datetime
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """There unless it is so large that it is kept out of line; `input_bytes` then."""
    input_bytes: int = 0
    worker_id: str | None = None
    error: JobProblem | None = None
    crashed_workers: list[str] = []


class DeadLetters(msgspec.Struct):
    """Dead letters, newest first."""

    dead: list[DeadLetterInfo]


class RetryAccepted(msgspec.Struct):
    """The dead letter was submitted again, as a new job."""

    request_id: RequestId
    retry_of: RequestId
    status: Literal["queued"]


class Alive(msgspec.Struct):
    """The process is up."""

    status: Literal["alive"]


class Readiness(msgspec.Struct, omit_defaults=True):
    """Whether this process can do its work right now."""

    status: Literal["ready", "not ready"]
    reasons: Annotated[list[str], Meta(description="Why it is not ready.")] = []
    warnings: Annotated[list[str], Meta(description="What an operator should look at; the process works.")] = []


class ProblemKind(msgspec.Struct):
    """What a type of problem means."""

    type: str
    title: str
    status: int
    meaning: str
