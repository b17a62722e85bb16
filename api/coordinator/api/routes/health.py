"""Health: `/livez` says that the process runs, `/readyz` whether it can do its work, and what any problem type means."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from coordinator.api import examples, problems
from coordinator.api.engine import Engine
from coordinator.api.openapi import answers
from coordinator.api.problems import Problem
from coordinator.api.replies import reply
from coordinator.api.schemas import Alive, ProblemKind, Readiness
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import CoordinatorError, MemoryPressure

_PATIENCE_SECONDS = 1.8


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["health"], default_response_class=Response)

    @routes.get(
        "/livez",
        summary="Is the process up?",
        responses=answers({200: (Alive, "It is.", {"status": "alive"})}, redis=False),
    )
    async def livez() -> Response:
        return reply(Alive("alive"))

    @routes.get(
        "/readyz",
        summary="Can the process do its work?",
        responses=answers(
            {200: (Readiness, "It can.", {"status": "ready"}), 503: (Readiness, "It can't.", examples.NOT_READY)},
            redis=False,
        ),
    )
    async def readyz() -> Response:
        readiness = await check(engine)
        return reply(readiness, 200 if readiness.status == "ready" else 503)

    @routes.get(
        "/problems/{kind}",
        summary="What does this problem type mean?",
        responses=answers({200: (ProblemKind, "What it means.", examples.PROBLEM_KIND)}, "not-found", redis=False),
    )
    async def problem(kind: str) -> Response:
        found = problems.KINDS.get(kind)
        if found is None:
            raise Problem("not-found", "There is no such problem type.")
        return reply(ProblemKind(problems.PREFIX + kind, found.title, found.status, found.meaning))

    return routes


async def check(engine: Engine) -> Readiness:
    """Look at everything that this process needs, within two seconds."""
    reasons: list[str] = []
    warnings: list[str] = []
    if engine.trouble is not None:
        reasons.append(engine.trouble)
    try:
        connections = engine.core.connections
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for info in await _infos(connections):
                _judge_memory(info, reasons)
            await connections.check()
    except MemoryPressure as error:
        warnings.append(str(error))
    except CoordinatorError as error:
        reasons.append(str(error))
    except TimeoutError:
        reasons.append("Redis did not answer in time.")
    return Readiness("not ready" if reasons else "ready", reasons, warnings)


async def _infos(connections: Connections) -> list[dict[str, Any]]:
    servers: dict[int, Partition] = {id(p.redis): p for p in connections.partitions}
    return list(await asyncio.gather(*(p.patiently(partial(p.redis.info, "memory")) for p in servers.values())))


def _judge_memory(info: dict[str, Any], reasons: list[str]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        reasons.append(
            f"The memory policy of Redis is {policy}: at its memory limit it throws accepted jobs away. "
            "Set maxmemory-policy to noeviction."
        )
