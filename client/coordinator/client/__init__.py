"""The producer's library: hand in jobs, fetch results.

Three faces, one meaning. `AsyncClient` talks HTTP to the coordinator; `Client` is the same for code without an event
loop; `Producer` goes straight into Redis, for producers that sit next to it and hand in jobs by the ten thousand.

What all three promise: once `submit` has returned a request id, the job is accepted, and it reaches one final outcome.
Sending again after a lost reply never makes a second job: over HTTP every submission carries an idempotency key, and
into Redis every submission is idempotent by its request id. Over HTTP, refusals (`BacklogFull`, `MemoryPressure`,
`NotDurable`, `RedisUnavailable`) are tried again, as late as the coordinator asks, until the client's patience is over;
then they are raised. A `Producer` raises them at once. An outcome that is not a success is not an exception until you
ask for its value.
"""

from coordinator.client.async_client import AsyncClient
from coordinator.client.errors import JobFailed, ProblemError, Unreachable, WaitTimeout
from coordinator.client.producer import Producer
from coordinator.client.requests import JobRequest, Options
from coordinator.client.results import JobResult
from coordinator.client.sync_client import Client
from coordinator.core.errors import (
    BacklogFull,
    Conflict,
    CoordinatorError,
    InvalidInput,
    InvalidState,
    MemoryPressure,
    Misconfigured,
    NotDurable,
    NotFound,
    RedisUnavailable,
    Refused,
    UnknownModel,
)

__all__ = [
    "AsyncClient",
    "BacklogFull",
    "Client",
    "Conflict",
    "CoordinatorError",
    "InvalidInput",
    "InvalidState",
    "JobFailed",
    "JobRequest",
    "JobResult",
    "MemoryPressure",
    "Misconfigured",
    "NotDurable",
    "NotFound",
    "Options",
    "ProblemError",
    "Producer",
    "RedisUnavailable",
    "Refused",
    "UnknownModel",
    "Unreachable",
    "WaitTimeout",
]
