"""`GET /result/{request_id}`: what became of a job."""

from __future__ import annotations

from starlette.types import Receive, Scope

from coordinator.api import parameters
from coordinator.api.asgi import JSON, Answer, Headers
from coordinator.api.engine import Engine
from coordinator.api.routes.inference import encode_result
from coordinator.api.waits import outcome


class ReadResult:
    """The endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive) -> Answer:
        prefer = next((value for name, value in scope["headers"] if name == b"prefer"), None)
        wait, applied = parameters.asked_wait(scope["query_string"], prefer, self._engine.settings.max_wait)
        headers: Headers = [JSON]
        if applied is not None:
            headers.append((b"preference-applied", applied))
        result = await outcome(self._engine, receive, scope["path_params"]["request_id"], wait)
        return Answer(200, headers, encode_result(result))
