"""`POST /inference`: hand in a job, and if asked to, wait for its outcome."""

from __future__ import annotations

import contextlib

import msgspec
from starlette.types import Receive, Scope

from coordinator.api import bodies, parameters, problems
from coordinator.api.asgi import JSON, Answer, Headers, read_body
from coordinator.api.engine import Engine
from coordinator.api.problems import invalid, too_large
from coordinator.api.schemas import InferenceRequest
from coordinator.api.waits import outcome
from coordinator.core.errors import CoordinatorError
from coordinator.core.records import NewJob
from coordinator.core.results import Result
from coordinator.core.settings import Settings
from coordinator.core.steps import Receipt

_decoder = msgspec.json.Decoder(InferenceRequest)
_encode = msgspec.json.Encoder().encode


class Inference:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        engine, settings = self._engine, self._engine.settings
        headers = dict(scope["headers"])
        body = await read_body(receive, settings.max_body_bytes, headers.get(b"content-length"))
        wait, applied = parameters.asked_wait(scope["query_string"], headers.get(b"prefer"), settings.max_wait)
        answer_headers: Headers = [JSON]
        if applied is not None:
            answer_headers.append((b"preference-applied", applied))
        key = headers.get(b"idempotency-key")
        job = new_job(body, settings, None if key is None else parameters.idempotency_key(key))
        try:
            receipt = await engine.core.submitter.submit(job)
        except CoordinatorError as error:
            engine.tally.refuse(problems.of(error).kind)
            raise
        engine.tally.accepted += 1
        answer_headers.append((b"location", b"/result/" + receipt.request_id.encode()))
        if wait:
            # It is accepted, whatever becomes of the wait: an error now must not read as if it were not.
            with contextlib.suppress(CoordinatorError):
                result = await outcome(engine, receive, receipt.request_id, wait)
                if result.final:
                    return Answer(200, answer_headers, encode_result(result))
        return Answer(202, answer_headers, accepted(receipt, job.model))


def new_job(body: bytes, settings: Settings, key: str | None) -> NewJob:
    """The job that a body asks for. Raises `Problem`."""
    if not bodies.is_text(body):
        raise bodies.malformed("it is not UTF-8")
    return job_of(bodies.decode(_decoder, body), settings, key, shallow=bodies.is_shallow(body))


def job_of(request: InferenceRequest, settings: Settings, key: str | None, *, shallow: bool) -> NewJob:
    """The job that a request asks for, its limits checked. Raises `Problem`. Names are left to the submitter.

    `shallow`: the input is known not to be nested too deep.
    """
    data = bytes(request.input)
    if len(data) > settings.max_body_bytes:
        raise too_large("The input", settings.max_body_bytes)
    if not shallow:
        bodies.check_depth(data)
    job = NewJob(
        model=request.model,
        input=data,
        priority=request.priority,
        idempotency_key=key,
        durability=request.durability,
    )
    longest = settings.max_job_lifetime
    if request.timeout_seconds is not None:
        job.timeout_ms = _milliseconds("timeout_seconds", request.timeout_seconds, longest)
    if request.max_attempts is not None:
        job.max_attempts = request.max_attempts
    if request.delay_seconds:
        if request.delay_seconds >= longest:
            raise invalid(
                f"delay_seconds must be below {longest:g}, the longest life of a job.", pointer="#/delay_seconds"
            )
        job.delay_ms = round(request.delay_seconds * 1000)
    if request.deadline_seconds is not None:
        job.deadline_ms = _milliseconds("deadline_seconds", request.deadline_seconds, longest)
    return job


def accepted(receipt: Receipt, model: str) -> bytes:
    """The body that says a job is accepted. Both names were checked: nothing in them needs escaping."""
    away = ',"workers_away":true' if receipt.workers_away else ""
    return f'{{"request_id":"{receipt.request_id}","status":"queued","model":"{model}"{away}}}'.encode()


def encode_result(result: Result) -> bytes:
    """A result as JSON."""
    return _encode(result)


def _milliseconds(name: str, seconds: float, longest: float) -> int:
    if seconds > longest:
        raise invalid(f"{name} must be at most {longest:g}, the longest life of a job.", pointer=f"#/{name}")
    return max(1, round(seconds * 1000))
