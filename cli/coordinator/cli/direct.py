"""How the operator's commands reach a coordinator's Redis itself: for when what is to be looked at is Redis."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.core.connection import Connections
from coordinator.core.errors import InvalidInput
from coordinator.core.settings import Settings

RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="The Redis that holds everything; else COORDINATOR_REDIS_URL, redis://127.0.0.1:6379/0.",
    ),
]


def settings_of(redis: str | None) -> Settings:
    """The settings of this shell, with that Redis if one is named."""
    return Settings() if redis is None else Settings(redis_url=redis)


async def with_its_partitions(settings: Settings, client_name: str) -> Settings:
    """The same settings, with as many partitions as this Redis has, unless this shell says how many.

    Raises `InvalidInput` where no coordinator has been, so that a look at the wrong Redis does not claim it;
    `RedisUnavailable`, `Misconfigured`.
    """
    async with Connections.unchecked(settings, client_name=client_name) as connections:
        meta = await connections.meta()
    if "partitions" not in meta:
        raise InvalidInput("No coordinator has used this Redis yet. Is it the right one? --redis URL names another.")
    if "partitions" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"partitions": int(meta["partitions"])})
