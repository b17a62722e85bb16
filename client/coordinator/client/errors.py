"""The errors a producer meets, besides those of `coordinator.core.errors` which say why a job was not accepted.

CoordinatorError
├── … (see coordinator.core.errors: InvalidInput, UnknownModel, Refused, Conflict, NotFound, InvalidState)
│   └── Refused
│       └── Unreachable     no answer from the coordinator's address
├── ProblemError            a problem document of a type this version does not know
├── JobFailed               the value of a job was asked for that has none
└── WaitTimeout             the job is not final yet
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

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

if TYPE_CHECKING:
    from coordinator.client.results import JobResult


class ProblemError(CoordinatorError):
    """A problem document (RFC 9457) of a type that has no class of its own. `status` is the HTTP status."""

    def __init__(self, message: str, status: int, type: str) -> None:  # noqa: A002 - RFC 9457's word for it
        super().__init__(message)
        self.status = status
        self.type = type


class Unreachable(Refused):
    """There is no answer from the coordinator's address. Whether the request arrived is not known."""


class JobFailed(CoordinatorError):
    """A job has no value: it failed, expired or was cancelled, or is not finished. `result` says which."""

    def __init__(self, result: JobResult) -> None:
        why = f": {result.error.type}: {result.error.message}" if result.error else ""
        super().__init__(f"The job {result.request_id} is {result.status}{why}")
        self.result = result


class WaitTimeout(CoordinatorError, TimeoutError):
    """The time to wait is over and the job is not final. It goes on; `result` is what held last."""

    def __init__(self, result: JobResult, seconds: float) -> None:
        super().__init__(f"The job {result.request_id} is still {result.status} after {seconds:g} seconds.")
        self.result = result


class Problem(msgspec.Struct):
    """A problem document as the API sends it; unknown members are let through."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    model: str = ""
    request_id: str = ""
    retry_after: float | None = None


_BY_TYPE: Final[dict[str, Callable[[Problem, float], CoordinatorError]]] = {
    "invalid-request": lambda problem, _: InvalidInput(),
    "malformed-json": lambda problem, _: InvalidInput(),
    "too-large": lambda problem, _: InvalidInput(),
    "unknown-model": lambda problem, _: UnknownModel(problem.model),
    "not-found": lambda problem, _: NotFound(),
    "unknown-job": lambda problem, _: NotFound(),
    "unknown-worker": lambda problem, _: NotFound(),
    "unknown-dead-letter": lambda problem, _: NotFound(),
    "conflict": lambda problem, _: Conflict(problem.request_id),
    "invalid-state": lambda problem, _: InvalidState(),
    "backlog-full": lambda problem, after: BacklogFull(problem.model, after),
    "memory-pressure": lambda problem, after: MemoryPressure(after),
    "not-durable": lambda problem, after: NotDurable("", after),
    "redis-unavailable": lambda problem, after: RedisUnavailable("", after),
    "misconfigured": lambda problem, _: Misconfigured(),
}
"""By the last word of a problem's `type`; the API's own table is its counterpart."""


def error_of(problem: Problem, status: int, retry_after: float | None = None) -> CoordinatorError:
    """The exception that stands for a problem document; it says what the document says."""
    status = problem.status or status
    message = problem.detail or problem.title or f"The coordinator answered with status {status}."
    after = next((seconds for seconds in (retry_after, problem.retry_after) if seconds is not None), 1.0)
    make = _BY_TYPE.get(problem.type.rpartition("/")[2])
    if make is not None:
        error = make(problem, after)
        error.args = (message,)
        return error
    if status in (429, 502, 503, 504):
        return Refused(message, after)
    return ProblemError(message, status, problem.type)


def problem_of(body: bytes, status: int, retry_after: float | None) -> CoordinatorError:
    """The exception for an HTTP answer that is not a success, whoever sent it."""
    decoded: Any
    try:
        decoded = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        decoded = Problem()
    return error_of(decoded, status, retry_after)
