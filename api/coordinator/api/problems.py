"""Errors as RFC 9457 problem documents: the one table of all types, and how an exception becomes a document.

A `type` is stable: programs may branch on it. It is a path on this server, and reading it says what the problem means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from coordinator.core import errors
from coordinator.core.errors import CoordinatorError, Refused

MEDIA_TYPE: Final = "application/problem+json"
PREFIX: Final = "/problems/"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem: its HTTP status, its title, and what it means."""

    status: int
    title: str
    meaning: str


KINDS: Final[Mapping[str, Kind]] = {
    "malformed-http": Kind(400, "Malformed HTTP", "What came over the connection is not an HTTP request."),
    "not-found": Kind(404, "No such path", "Nothing is served under this path. GET /docs lists what is."),
    "unknown-job": Kind(
        404, "Unknown job", "No job has this request id, or its outcome was kept for its time and is gone."
    ),
    "unknown-model": Kind(404, "Unknown model", "No worker ever registered this model: nothing could run the job."),
    "unknown-worker": Kind(404, "Unknown worker", "No worker has this id. A worker that reads this registers again."),
    "unknown-dead-letter": Kind(
        404, "Unknown dead letter", "There is none with this id: retried, removed, or too old."
    ),
    "method-not-allowed": Kind(
        405, "Method not allowed", "The path does not know this method; `Allow` has those it does."
    ),
    "conflict": Kind(409, "Conflict", "The idempotency key was used before for a different request."),
    "superseded": Kind(
        409, "Superseded", "Another process has registered under this worker id since; this one must stop."
    ),
    "invalid-state": Kind(409, "Invalid state", "The thing exists, but its state does not allow what was asked."),
    "too-large": Kind(413, "Too large", "The body, the input or the batch is over its `limit`. Nothing was accepted."),
    "malformed-json": Kind(422, "Malformed JSON", "The body is not valid JSON in UTF-8."),
    "invalid-request": Kind(422, "Invalid request", "A value is not allowed; `errors` says which and why."),
    "head-too-large": Kind(431, "Request head too large", "The URL and headers together are too large."),
    "internal-error": Kind(500, "Internal error", "The coordinator's own fault. The log of the API process says why."),
    "backlog-full": Kind(503, "Backlog full", "As many jobs wait for this model as may wait. Nothing was accepted."),
    "memory-pressure": Kind(503, "Memory pressure", "Redis is close to its memory limit. Nothing was accepted."),
    "not-durable": Kind(
        503,
        "Not durable",
        "Neither replica nor disk confirmed the job in time: it may run, but is not accepted. An idempotency key makes a "
        "repeat safe.",
    ),
    "redis-unavailable": Kind(
        503,
        "Redis unavailable",
        "Redis does not answer. Whether the request took effect is not known; an idempotency key makes a repeat safe.",
    ),
    "misconfigured": Kind(
        503, "Misconfigured", "This process and its Redis don't fit together. An operator has to act."
    ),
}
"""Type → kind. Every problem document that this server sends has one of these types."""

_OF_ERROR: Final[tuple[tuple[type[CoordinatorError], str], ...]] = (
    (errors.InvalidInput, "invalid-request"),
    (errors.UnknownModel, "unknown-model"),
    (errors.BacklogFull, "backlog-full"),
    (errors.MemoryPressure, "memory-pressure"),
    (errors.NotDurable, "not-durable"),
    (errors.RedisUnavailable, "redis-unavailable"),
    (errors.Conflict, "conflict"),
    (errors.NotFound, "unknown-job"),
    (errors.InvalidState, "invalid-state"),
    (errors.Misconfigured, "misconfigured"),
)


@dataclass
class Problem(Exception):
    """A problem to be answered as `kind` (a key of `KINDS`), with a `detail` that is safe to show."""

    kind: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the document."""
    headers: Mapping[str, str] = field(default_factory=dict)


def invalid(
    detail: str, *, pointer: str | None = None, parameter: str | None = None, header: str | None = None
) -> Problem:
    """The problem of one wrong value: in the body (`pointer`, a JSON pointer), the query, the path or a header."""
    place = {"pointer": pointer, "parameter": parameter, "header": header}
    error = {"detail": detail, **{name: value for name, value in place.items() if value is not None}}
    return Problem("invalid-request", detail, {"errors": [error]})


def too_large(what: str, limit: int, unit: str = "bytes") -> Problem:
    """The problem of a body, an input or a batch over its limit."""
    return Problem("too-large", f"{what} is over the limit of {limit} {unit}.", {"limit": limit})


def of(error: Exception) -> Problem:
    """The problem that an exception stands for; what is not raised on purpose is an internal error without detail."""
    if isinstance(error, Problem):
        return error
    for cls, kind in _OF_ERROR:
        if isinstance(error, cls):
            return Problem(kind, str(error), _extra(error))
    return Problem("internal-error", "The request could not be answered; the log of the API process says why.")


def _extra(error: Exception) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if isinstance(error, errors.InvalidInput):
        extra["errors"] = [{"detail": str(error)}]
    if isinstance(error, errors.UnknownModel | errors.BacklogFull):
        extra["model"] = error.model
    if isinstance(error, errors.Conflict):
        extra["request_id"] = error.request_id
    if isinstance(error, Refused):
        extra["retry_after"] = error.retry_after
    return extra


def document(problem: Problem) -> dict[str, Any]:
    """The problem as a document."""
    kind = KINDS[problem.kind]
    return {
        "type": PREFIX + problem.kind,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        **problem.extra,
    }


def encode(problem: Problem) -> bytes:
    """The problem document as JSON."""
    return orjson.dumps(document(problem))


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers that go with a problem: its own, and `Retry-After` in whole seconds where trying again makes sense."""
    headers = {"content-type": MEDIA_TYPE, **problem.headers}
    if "retry_after" in problem.extra:
        headers["retry-after"] = str(max(1, math.ceil(problem.extra["retry_after"])))
    return headers
