"""`DELETE /inference/{request_id}`: end a job that is not wanted any more."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from coordinator.api import examples
from coordinator.api.engine import Engine
from coordinator.api.openapi import answers
from coordinator.api.problems import Problem
from coordinator.api.replies import reply
from coordinator.core import steps
from coordinator.core.results import Result


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["jobs"], default_response_class=Response)

    @routes.delete(
        "/inference/{request_id}",
        summary="Cancel a job",
        description="Ends it wherever it is: waiting, delayed, assigned or running. A worker that runs it is told to stop, "
        "and can't complete it any more. Asked again, it answers the same.",
        operation_id="cancel",
        responses=answers({200: (Result, "It is cancelled.", examples.CANCELLED)}, "unknown-job", "invalid-state"),
    )
    async def cancel(request_id: str) -> Response:
        core = engine.core
        outcome, before = await steps.cancel(core.connections.of_request(request_id), request_id)
        if outcome == "final":
            detail = f"The job is over: it has {before} already."
            raise Problem("invalid-state", detail, {"request_id": request_id, "job_status": before})
        # An unknown job is not found by this, either.
        return reply(await core.waiting.result(request_id))

    return routes
