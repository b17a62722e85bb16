"""What a producer asks for: one job, and how its input becomes JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypedDict, cast

import msgspec

from coordinator.core.errors import InvalidInput
from coordinator.core.records import NewJob


class Options(TypedDict, total=False):
    """What may be said about a job besides its model and input. Times are in seconds."""

    priority: str
    """high, normal (the default) or low."""
    timeout_seconds: float
    """How long one run may take; the model's own limit unless given."""
    max_attempts: int
    """How often it is tried before it becomes a dead letter; the deployment's default unless given."""
    delay_seconds: float
    """How long to hold it back before it may start."""
    deadline_seconds: float
    """How long after submission it must have started; else it expires."""
    durability: str
    """memory, replicated or fsync: what must have confirmed the job before it counts as accepted."""


class JobRequest(msgspec.Struct, omit_defaults=True):
    """One job, as `POST /inference` takes it. The fields are those of `Options`."""

    model: str
    input: Any
    priority: str = "normal"
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    delay_seconds: float = 0.0
    deadline_seconds: float | None = None
    durability: str | None = None


def _plain(value: object) -> object:
    """Arrays (of numpy, torch, …) go as nested lists."""
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"objects of type {type(value).__name__} have no JSON form")
    return to_list()


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode


def to_json(value: object) -> bytes:
    """`value` as JSON. NaN and infinity have no JSON form and become null. Raises `InvalidInput`."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"The input can't be written as JSON: {error}.") from error


def job_requests(jobs: str | Iterable[JobRequest], inputs: Iterable[Any] | None, options: Options) -> list[JobRequest]:
    """The two ways to call `submit_many`, as one: a model and its inputs, or whole job requests."""
    if isinstance(jobs, str):
        if inputs is None:
            raise TypeError("submit_many(model, inputs) needs the inputs")
        return [JobRequest(jobs, value, **options) for value in inputs]
    if inputs is not None or options:
        raise TypeError("submit_many(jobs) takes whole JobRequests and nothing else")
    return list(jobs)


def new_job(request: JobRequest, idempotency_key: str | None = None) -> NewJob:
    """The job as the core takes it. Raises `InvalidInput`."""
    return NewJob(
        model=request.model,
        input=to_json(request.input),
        priority=request.priority,
        timeout_ms=_ms(request.timeout_seconds),
        max_attempts=request.max_attempts,
        delay_ms=cast(int, _ms(request.delay_seconds)),
        deadline_ms=_ms(request.deadline_seconds),
        idempotency_key=idempotency_key,
        durability=request.durability,
    )


def _ms(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    try:
        return round(seconds * 1000)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{seconds!r} is no number of seconds.") from error
