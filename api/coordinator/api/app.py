"""The composition root: engine, routes, error handlers, and the short way to the hot routes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from time import perf_counter
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.api import openapi, problems
from coordinator.api.asgi import ClientGone, Hot
from coordinator.api.engine import Engine
from coordinator.api.problems import Problem, invalid
from coordinator.api.replies import problem_response
from coordinator.api.routes import cancel, dead, health, metrics, models, workers
from coordinator.api.routes.batch import Batch
from coordinator.api.routes.inference import Inference
from coordinator.api.routes.results import ReadResult
from coordinator.core.errors import CoordinatorError
from coordinator.core.settings import Settings

_RESULT: Final = "/result/"
_CLIENT_CLOSED_REQUEST: Final = 499
"""An answer that nobody gets; for the metrics."""
_OPENING_SECONDS: Final = 2.0
"""How long the start waits for Redis, so that in the usual case not even the first request meets a 503."""
_DESCRIPTION: Final = """
Hand in jobs for machine-learning models, and fetch their outcomes. An accepted job survives the death of any process, and
reaches exactly one final outcome. Errors are problem documents (RFC 9457); `type` is stable and, read as a path, says
what it means.

This page takes its scripts from a content delivery network; without internet access, read `/openapi.json`.
"""


class Api(FastAPI):
    """FastAPI with a short way: requests to the hot routes go past its middleware, which they have no use for.

    The hot routes are in its routing table as well, for whatever reaches it another way (another method, a root path).
    """

    def __init__(self, settings: Settings) -> None:
        self.engine = Engine(settings)
        super().__init__(
            title="Central Coordinator",
            version=version("central-coordinator"),
            description=_DESCRIPTION,
            lifespan=self._live,
            redirect_slashes=False,
            redoc_url=None,
        )
        self._posts: dict[str, ASGIApp] = {
            path: Hot(endpoint, "POST", path, self.engine.tally)
            for path, endpoint in (("/inference", Inference(self.engine)), ("/inference/batch", Batch(self.engine)))
        }
        path = _RESULT + "{request_id}"
        self._result: ASGIApp = Hot(ReadResult(self.engine), "GET", path, self.engine.tally)
        self.router.routes.append(Route(path, self._result, methods=["GET"]))
        for path, endpoint in self._posts.items():
            self.router.routes.append(Route(path, endpoint, methods=["POST"]))
        for router in (cancel.router, workers.router, models.router, dead.router, health.router, metrics.router):
            self.router.routes.extend(router(self.engine).routes)
        openapi.install(self, settings)
        _handle_errors(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            if method == "POST" and path in self._posts:
                return await self._posts[path](scope, receive, send)
            if method == "GET" and path.startswith(_RESULT) and "/" not in path[len(_RESULT) :]:
                scope["path_params"] = {"request_id": path[len(_RESULT) :]}
                return await self._result(scope, receive, send)
            return await self._counted(scope, receive, send)
        return await super().__call__(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What FastAPI serves."""
        began = perf_counter()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await super().__call__(scope, receive, watch)
        finally:
            # A client must not be able to make new labels: what is not served is counted as "other".
            path = getattr(scope.get("route"), "path", "other")
            method = "other" if path == "other" or status == 405 else scope["method"]
            self.engine.tally.answered(method, path, status, perf_counter() - began)

    @contextlib.asynccontextmanager
    async def _live(self, _: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(self.engine.run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.engine.settled.wait(), _OPENING_SECONDS)
        try:
            yield
        finally:
            self.engine.stop_waiting()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def create_app(settings: Settings) -> Api:
    """The API as an ASGI application. Its lifespan opens the connections."""
    return Api(settings)


def _handle_errors(app: FastAPI) -> None:
    async def on_error(_: Request, error: Exception) -> Response:
        return problem_response(problems.of(error))

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return problem_response(invalid(f"{name}: {first['msg']}.", parameter=name))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allow = ", ".join(sorted(_methods_of(app, request)))
            detail = f"{request.method} is not served here; {allow} is."
            return problem_response(Problem("method-not-allowed", detail, headers={"allow": allow}))
        return problem_response(Problem("not-found", "Nothing is served under this path. GET /docs lists what is."))

    async def on_gone(_: Request, __: Exception) -> Response:
        return Response(status_code=_CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(ClientGone, on_gone)
    app.add_exception_handler(CoordinatorError, on_error)
    app.add_exception_handler(Problem, on_error)
    app.add_exception_handler(Exception, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def _methods_of(app: FastAPI, request: Request) -> set[str]:
    """All methods that the request's path is served with; the router itself names only those of one route."""
    matching = [route for route in app.router.routes if route.matches(request.scope)[0].value]
    # A path that is served as it is does not have the methods of a template that it happens to fit.
    exact = [route for route in matching if getattr(route, "path", None) == request.scope["path"]]
    return {method for route in exact or matching for method in getattr(route, "methods", None) or ()}
