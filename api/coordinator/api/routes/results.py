"""`GET /result/{request_id}`: what became of a job."""

from __future__ import annotations

from starlette.types import Receive, Scope

from coordinator.api import parameters
from coordinator.api.asgi import JSON, Answer
from coordinator.api.engine import Engine
from coordinator.api.routes.inference import encode_result
from coordinator.api.waits import outcome

PATH = "/result/"


class ReadResult:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        query: bytes = scope["query_string"]
        wait = parameters.wait_of(query, self._engine.settings.max_wait) if query else None
        request_id: str = scope["path_params"]["request_id"]
        result = await outcome(self._engine, receive, request_id, wait or 0.0)
        return Answer(200, [JSON], encode_result(result))
