"""Every error the coordinator raises on purpose, in one tree.

CoordinatorError
├── InvalidInput            the caller's data is wrong: says what and what to do
├── UnknownModel            no worker ever registered this model
├── Refused                 understood, but not now: carries `retry_after` in seconds
│   ├── BacklogFull         the model's backlog is at its limit
│   ├── MemoryPressure      Redis is close to its memory limit
│   ├── RedisUnavailable    Redis did not answer, or can't take writes
│   └── NotDurable          taken, but not known to be as durable as was asked for
├── Conflict                an idempotency key was used before for something else
├── NotFound                no such job, worker or dead letter
├── InvalidState            the thing exists, but is not in a state that allows this
└── Misconfigured           this process and the Redis it was given don't fit; restarting won't help
"""

from __future__ import annotations


class CoordinatorError(Exception):
    """Base of all errors raised on purpose. `str(error)` is safe to show to the caller."""


class InvalidInput(CoordinatorError):
    """The caller's data is wrong."""


class UnknownModel(CoordinatorError):
    """No worker ever registered this model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"No worker has ever registered the model '{model}'. See GET /models for those known.")
        self.model = model


class Refused(CoordinatorError):
    """Understood, but not now; the same request may be sent again.

    Nothing was accepted, unless Redis was away or the durability is not confirmed: then it may have been, and the same
    key finds it.

    `retry_after`: seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BacklogFull(Refused):
    """The model's backlog is at its limit."""

    def __init__(self, model: str, retry_after: float = 1.0) -> None:
        super().__init__(f"The backlog of the model '{model}' is at its limit; try again later.", retry_after)
        self.model = model


class MemoryPressure(Refused):
    """Redis is close to its memory limit, so that new work is refused while old work is finished."""

    def __init__(self, retry_after: float = 2.0) -> None:
        super().__init__("The coordinator's Redis is close to its memory limit; try again later.", retry_after)


class NotDurable(Refused):
    """The job is in Redis and may well run, but replicas or disk did not confirm it in time: it is not accepted.

    The same request with the same idempotency key asks again for the confirmation, and makes no second job.
    """

    def __init__(self, durability: str, retry_after: float = 1.0) -> None:
        super().__init__(
            f"Redis did not confirm the durability '{durability}' in time; send the same request with the same key again.",
            retry_after,
        )
        self.durability = durability


class RedisUnavailable(Refused):
    """Redis did not answer in time, or can't take writes. Whether the step happened is not known."""

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(f"Redis is not available: {detail}", retry_after)


class Conflict(CoordinatorError):
    """An idempotency key was used before for a different request."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"This idempotency key was used for a different request, {request_id}; use a new key for a new request."
        )
        self.request_id = request_id


class NotFound(CoordinatorError):
    """No such job, worker or dead letter."""


class InvalidState(CoordinatorError):
    """The thing exists, but its state does not allow what was asked."""


class Misconfigured(CoordinatorError):
    """This process and the Redis that it was given don't fit together; starting again won't help."""
