"""Workers: register, stay alive, drain, leave, and be looked at."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from coordinator.api import examples
from coordinator.api.engine import Engine
from coordinator.api.openapi import answers, body
from coordinator.api.problems import Problem, invalid
from coordinator.api.replies import body_of, reply, time_of
from coordinator.api.schemas import (
    HeartbeatRequest,
    ModelRequest,
    Registered,
    RegisterRequest,
    Served,
    WorkerInfo,
    Workers,
    WorkerSettings,
    WorkerState,
)
from coordinator.core import membership, names, views
from coordinator.core.errors import InvalidInput, NotFound
from coordinator.core.records import ModelOffer, WorkerView
from coordinator.core.settings import Settings

_register = msgspec.json.Decoder(RegisterRequest)
_heartbeat = msgspec.json.Decoder(HeartbeatRequest)


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["workers"], default_response_class=Response)
    settings = engine.settings

    @routes.post(
        "/register",
        summary="Register a worker",
        status_code=201,
        responses=answers(
            {201: (Registered, "Registered.", examples.REGISTERED)}, "too-large", "malformed-json", "invalid-request"
        ),
        openapi_extra=body(RegisterRequest, examples.REGISTER),
    )
    async def register(request: Request) -> Response:
        wanted = await body_of(request, _register)
        registration = await membership.register(
            engine.core.connections,
            settings,
            worker_id=wanted.worker_id,
            models=_offers(wanted, settings),
            metadata=wanted.metadata,
            incarnation=wanted.incarnation,
        )
        told = Registered(**msgspec.structs.asdict(registration), settings=_worker_settings(settings))
        return reply(told, 201)

    @routes.post(
        "/workers/{worker_id}/heartbeat",
        summary="Renew a worker's lease",
        responses=answers(
            {200: (WorkerState, "The lease is renewed.", examples.WORKER_STATE)},
            "unknown-worker", "superseded", "too-large", "malformed-json", "invalid-request",
        ),
        openapi_extra=body(HeartbeatRequest, examples.HEARTBEAT, required=False),
    )  # fmt: skip
    async def heartbeat(worker_id: str, request: Request) -> Response:
        _check_id(worker_id)
        who = await body_of(request, _heartbeat, default=HeartbeatRequest())
        state = await membership.heartbeat(engine.core.connections, settings, worker_id, who.incarnation)
        if state == "unknown":
            raise Problem("unknown-worker", f"There is no worker '{worker_id}' any more: register again.")
        if state == "superseded":
            raise Problem("superseded", f"Another process has registered as '{worker_id}' since: stop this one.")
        return reply(WorkerState(worker_id, "draining" if state == "draining" else "live"))

    @routes.post(
        "/workers/{worker_id}/drain",
        summary="Give a worker no more work",
        responses=answers({200: (WorkerState, "It finishes what it holds.", examples.DRAINING)}, "unknown-worker"),
    )
    async def drain(worker_id: str) -> Response:
        _check_id(worker_id)
        try:
            await membership.drain(engine.core.connections, worker_id)
        except NotFound as error:
            raise Problem("unknown-worker", str(error)) from None
        return reply(WorkerState(worker_id, "draining"))

    @routes.delete(
        "/workers/{worker_id}",
        summary="Retire a worker",
        description="Takes back all that it holds, for others to do, and ends it.",
        status_code=204,
        responses=answers({204: (None, "It is gone.", None)}, "unknown-worker"),
    )
    async def retire(worker_id: str) -> Response:
        _check_id(worker_id)
        try:
            await membership.retire(engine.core.connections, settings, worker_id)
        except NotFound as error:
            raise Problem("unknown-worker", str(error)) from None
        return Response(status_code=204)

    @routes.get(
        "/workers",
        summary="List the workers",
        responses=answers({200: (Workers, "The workers, by id.", examples.WORKERS)}, "invalid-request"),
    )
    async def workers(
        model: Annotated[str | None, Query(description="Only those that serve this model.")] = None,
        state: Annotated[
            Literal["live", "draining", "lost"] | None, Query(description="Only those in this state.")
        ] = None,
    ) -> Response:
        found = await views.workers(engine.core.connections, settings, model=model, state=state)
        return reply(Workers([_info(view) for view in found]))

    return routes


def _check_id(worker_id: str) -> None:
    try:
        names.check_worker(worker_id)
    except InvalidInput:
        raise Problem("unknown-worker", "No worker has an id like that.") from None


def _offers(wanted: RegisterRequest, settings: Settings) -> dict[str, ModelOffer]:
    if isinstance(wanted.models, list):
        return {model: ModelOffer() for model in wanted.models}
    return {model: _offer(model, offer, settings) for model, offer in wanted.models.items()}


def _offer(model: str, offer: ModelRequest, settings: Settings) -> ModelOffer:
    pointer = f"#/models/{model.replace('~', '~0').replace('/', '~1')}"
    if offer.timeout_seconds is not None and offer.timeout_seconds > settings.max_job_lifetime:
        detail = f"timeout_seconds must be at most {settings.max_job_lifetime:g}, the longest life of a job."
        raise invalid(detail, pointer=f"{pointer}/timeout_seconds")
    if offer.window is not None and offer.window < offer.capacity:
        raise invalid("window must be at least the capacity.", pointer=f"{pointer}/window")
    return ModelOffer(
        capacity=offer.capacity,
        version=offer.version,
        timeout_ms=None if offer.timeout_seconds is None else max(1, round(offer.timeout_seconds * 1000)),
        window=offer.window or 0,
    )


def _worker_settings(settings: Settings) -> WorkerSettings:
    return WorkerSettings(
        inline_bytes=settings.inline_bytes,
        max_attempts=settings.max_attempts,
        max_job_lifetime_seconds=settings.max_job_lifetime,
        dead_retention_seconds=settings.dead_retention,
        backoff_base_seconds=settings.backoff_base,
        backoff_cap_seconds=settings.backoff_cap,
    )


def _info(view: WorkerView) -> WorkerInfo:
    return WorkerInfo(
        worker_id=view.worker_id,
        state=view.state,  # type: ignore[arg-type]  # a view has one of the three
        models={name: _served(offer, view.outstanding.get(name, 0)) for name, offer in view.models.items()},
        heartbeat_age_seconds=view.heartbeat_age_ms / 1000,
        registered_at=time_of(view.registered_at),
        metadata=view.metadata,
    )


def _served(offer: ModelOffer, outstanding: int) -> Served:
    timeout = None if offer.timeout_ms is None else offer.timeout_ms / 1000
    return Served(offer.capacity, outstanding, offer.window, offer.version, timeout)
