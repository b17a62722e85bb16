"""Dead letters: look at them, try them again, throw them away."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from coordinator.api import examples
from coordinator.api.engine import Engine
from coordinator.api.openapi import answers
from coordinator.api.problems import Problem
from coordinator.api.replies import reply, time_of
from coordinator.api.schemas import DeadLetterInfo, DeadLetters, RetryAccepted
from coordinator.core import names, steps, views
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import NotFound
from coordinator.core.records import DeadLetter


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["dead letters"], default_response_class=Response)
    settings = engine.settings

    @routes.get(
        "/dead",
        summary="List the newest dead letters",
        responses=answers(
            {200: (DeadLetters, "Dead letters, newest first.", examples.DEAD_LETTERS)}, "invalid-request"
        ),
    )
    async def dead(
        model: Annotated[str | None, Query(description="Only those of this model.")] = None,
        count: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    ) -> Response:
        letters = await views.dead_letters(engine.core.connections, count=count, model=model)
        return reply(DeadLetters([_info(letter) for letter in letters]))

    @routes.get(
        "/dead/{request_id}",
        summary="Look at a dead letter",
        responses=answers({200: (DeadLetterInfo, "The dead letter.", examples.DEAD_LETTER)}, "unknown-dead-letter"),
    )
    async def look(request_id: str) -> Response:
        try:
            return reply(_info(await views.dead_letter(engine.core.connections, request_id)))
        except NotFound as error:
            raise Problem("unknown-dead-letter", str(error)) from None

    @routes.post(
        "/dead/{request_id}/retry",
        summary="Submit a dead letter again",
        description="Makes a new job of it. Asked again, it answers with the same new job.",
        status_code=202,
        responses=answers({202: (RetryAccepted, "Submitted again.", examples.RETRY)}, "unknown-dead-letter"),
    )
    async def retry(request_id: str) -> Response:
        partition = _partition(engine.core.connections, request_id)
        new_id = await steps.retry_dead(
            partition,
            request_id,
            names.request_ids(partition.index, partition.time.now_ms(), 1)[0],
            lifetime_ms=int(settings.max_job_lifetime * 1000),
            retention_ms=int(settings.result_retention * 1000),
        )
        if new_id is None:
            raise _unknown(request_id)
        return reply(RetryAccepted(new_id, request_id, "queued"), 202, location=f"/result/{new_id}")

    @routes.delete(
        "/dead/{request_id}",
        summary="Throw a dead letter away",
        status_code=204,
        responses=answers({204: (None, "It is gone.", None)}, "unknown-dead-letter"),
    )
    async def remove(request_id: str) -> Response:
        if not await steps.remove_dead(_partition(engine.core.connections, request_id), request_id):
            raise _unknown(request_id)
        return Response(status_code=204)

    return routes


def _partition(connections: Connections, request_id: str) -> Partition:
    try:
        return connections.of_request(request_id)
    except NotFound:
        raise _unknown(request_id) from None


def _unknown(request_id: str) -> Problem:
    return Problem("unknown-dead-letter", f"There is no dead letter with the request id {request_id[:60]!r}.")


def _info(letter: DeadLetter) -> DeadLetterInfo:
    job = letter.job
    return DeadLetterInfo(
        request_id=letter.request_id,
        model=letter.model,
        reason=letter.reason,
        attempts=letter.attempts,
        submitted_at=time_of(job.submitted_at),
        died_at=time_of(letter.died_at),
        input=msgspec.UNSET if job.input_bytes else job.input,
        input_bytes=job.input_bytes,
        worker_id=letter.worker_id,
        error=letter.error,
        crashed_workers=letter.crashed_workers,
    )
