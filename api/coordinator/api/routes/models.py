"""Models: who serves each, and what waits."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from coordinator.api import examples
from coordinator.api.engine import Engine
from coordinator.api.openapi import answers
from coordinator.api.replies import reply
from coordinator.api.schemas import Models
from coordinator.core import views


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["models"], default_response_class=Response)

    @routes.get(
        "/models",
        summary="List the models",
        responses=answers({200: (Models, "All models ever registered, by name.", examples.MODELS)}),
    )
    async def models() -> Response:
        return reply(Models(await views.models(engine.core.connections, engine.settings)))

    return routes
