"""`POST /inference/batch`: hand in many jobs at once. Each is accepted or refused on its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope

from coordinator.api import bodies, parameters, problems
from coordinator.api.asgi import JSON, Answer, Headers, read_body
from coordinator.api.engine import Engine
from coordinator.api.problems import Problem, too_large
from coordinator.api.routes.inference import accepted, job_of
from coordinator.api.schemas import InferenceRequest
from coordinator.core.errors import CoordinatorError, RedisUnavailable, Refused
from coordinator.core.records import NewJob

_array = msgspec.json.Decoder(list[msgspec.Raw])
_item = msgspec.json.Decoder(InferenceRequest)
_items = msgspec.json.Decoder(list[InferenceRequest])
_LINES = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl")


class Batch:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        settings = self._engine.settings
        headers = dict(scope["headers"])
        body = await read_body(receive, settings.max_batch_bytes, headers.get(b"content-length"))
        header = headers.get(b"idempotency-key")
        key = None if header is None else parameters.idempotency_key(header)
        requests = decode(body, headers.get(b"content-type", b""))
        if len(requests) > settings.max_batch_jobs:
            raise too_large("The batch", settings.max_batch_jobs, "jobs")
        shallow = bodies.is_shallow(body)
        jobs: list[NewJob] = []
        answers: list[bytes | None] = [None] * len(requests)
        for index, request in enumerate(requests):
            try:
                if isinstance(request, Problem):
                    raise request
                jobs.append(job_of(request, settings, None if key is None else f"{key}:{index}", shallow=shallow))
            except Problem as problem:
                answers[index] = self._refuse(problem)
        return await self._submit(jobs, answers)

    async def _submit(self, jobs: list[NewJob], answers: list[bytes | None]) -> Answer:
        outcomes = iter(await self._engine.core.submitter.submit_many(jobs) if jobs else ())
        headers: Headers = [JSON]
        away: RedisUnavailable | None = None
        retry_after = 0.0
        reached = False
        taken = 0
        named = iter(jobs)
        for index, answer in enumerate(answers):
            if answer is not None:
                continue
            outcome, job = next(outcomes), next(named)
            if isinstance(outcome, CoordinatorError):
                answers[index] = self._refuse(problems.of(outcome))
                if isinstance(outcome, Refused):
                    retry_after = max(retry_after, outcome.retry_after)
                if isinstance(outcome, RedisUnavailable):
                    away = outcome
                    continue
            else:
                answers[index] = accepted(outcome, job.model)
                taken += 1
            reached = True
        self._engine.tally.accepted += taken
        if away is not None and not reached:
            raise away
        if retry_after:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after))))
        return Answer(200, headers, b'{"results":[' + b",".join(a for a in answers if a is not None) + b"]}")

    def _refuse(self, problem: Problem) -> bytes:
        self._engine.tally.refuse(problem.kind)
        return b'{"problem":%b}' % problems.encode(problem)


def decode(body: bytes, content_type: bytes) -> Sequence[InferenceRequest | Problem]:
    """The jobs of a batch, in order; for those that can't be read, why. An array if it looks like one, else a job a line.

    Raises `Problem` if it is neither.
    """
    text = bodies.is_text(body)
    lines = content_type.partition(b";")[0].strip().lower() in _LINES or body.lstrip()[:1] == b"{"
    if text:
        with contextlib.suppress(msgspec.MsgspecError, RecursionError):
            return _item.decode_lines(body) if lines else _items.decode(body)
    # Something is wrong with one of them: take them one by one, to say with which, and to let the others in.
    if lines:
        return [_one(line, text) for line in body.split(b"\n") if line.strip()]
    return [_one(item, text) for item in bodies.decode(_array, body)]


def _one(item: bytes | msgspec.Raw, text: bool) -> InferenceRequest | Problem:
    try:
        if not text and not bodies.is_text(bytes(item)):
            raise bodies.malformed("it is not UTF-8")
        return bodies.decode(_item, item)
    except Problem as problem:
        return problem
