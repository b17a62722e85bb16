"""Membership: a worker's way in, its sign of life, and its way out, across the partitions of the models it serves."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

from coordinator.core import keys, names, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import InvalidInput, NotFound
from coordinator.core.records import ModelOffer
from coordinator.core.settings import Settings
from coordinator.core.topology import without_password

_MAX_MODELS = 100
_MAX_CAPACITY = 100_000


class Placement(msgspec.Struct):
    """Where a worker reads the jobs of one model, and their time limit unless they bring one."""

    stream: str
    group: str
    partition: int
    timeout_seconds: float


class Registration(msgspec.Struct):
    """What a worker is told when it registers."""

    worker_id: str
    incarnation: str
    lease_seconds: float
    heartbeat_seconds: float
    redis_url: str
    partitions: int
    models: dict[str, Placement]


async def register(
    connections: Connections,
    settings: Settings,
    *,
    worker_id: str | None,
    models: dict[str, ModelOffer],
    metadata: dict[str, Any],
    incarnation: str | None = None,
) -> Registration:
    """Enter a worker. An id that is still alive is taken over: what its earlier life held is reclaimed first.

    Raises `InvalidInput`, `RedisUnavailable`.
    """
    worker_id = names.check_worker(worker_id) if worker_id is not None else names.new_worker_id(socket.gethostname())
    incarnation = incarnation or names.new_incarnation()
    offers = {names.check_model(model): _checked(model, offer) for model, offer in models.items()}
    if not 0 < len(offers) <= _MAX_MODELS:
        raise InvalidInput(f"A worker serves from 1 to {_MAX_MODELS} models, not {len(offers)}.")
    by_partition: dict[Partition, dict[str, ModelOffer]] = {}
    for model, offer in offers.items():
        by_partition.setdefault(connections.of_model(model), {})[model] = offer
    for partition in connections.partitions:
        mine = by_partition.get(partition)
        if mine is None:
            # An earlier life may have served models that live here.
            await _reclaim_all(partition, settings, worker_id, retire=True)
            continue
        while not await steps.register(
            partition,
            worker_id,
            incarnation,
            mine,
            msgspec.json.encode(metadata),
            lease_ms=int(settings.lease_seconds * 1000),
        ):
            await _reclaim_all(partition, settings, worker_id, retire=False)
    return Registration(
        worker_id=worker_id,
        incarnation=incarnation,
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        redis_url=settings.advertise_redis_url or without_password(settings.redis_url),
        partitions=len(connections.partitions),
        models={
            model: Placement(
                stream=keys.inbox(connections.of_model(model).index, worker_id, model),
                group=keys.INBOX_GROUP,
                partition=connections.of_model(model).index,
                timeout_seconds=(offer.timeout_ms or settings.default_timeout * 1000) / 1000,
            )
            for model, offer in offers.items()
        },
    )


async def heartbeat(connections: Connections, settings: Settings, worker_id: str, incarnation: str = "") -> str:
    """Renew the worker's leases. Answers live, draining, superseded or unknown: the worst of its partitions."""
    lease_ms = int(settings.lease_seconds * 1000)
    answers = await asyncio.gather(
        *(steps.heartbeat(p, worker_id, incarnation, lease_ms=lease_ms) for p in connections.partitions)
    )
    strangers = [p for p, answer in zip(connections.partitions, answers, strict=True) if answer == "unknown"]
    states = set(answers) - {"unknown"}
    # Partitions of models that it does not serve don't know it. One that has lost it still has its registration.
    if not states or any(await asyncio.gather(*(_has_registration(p, worker_id) for p in strangers))):
        states.add("unknown")
    return next(state for state in ("superseded", "unknown", "draining", "live") if state in states)


async def drain(connections: Connections, worker_id: str) -> None:
    """Give the worker no more work. Raises `NotFound`."""
    if not any(await asyncio.gather(*(steps.drain(p, worker_id) for p in connections.partitions))):
        raise NotFound(f"There is no worker '{worker_id}'.")


async def retire(connections: Connections, settings: Settings, worker_id: str) -> None:
    """Take back all that the worker holds and end it. Raises `NotFound`."""
    if not any(await asyncio.gather(*(steps.drain(p, worker_id) for p in connections.partitions))):
        raise NotFound(f"There is no worker '{worker_id}'.")
    for partition in connections.partitions:
        await _reclaim_all(partition, settings, worker_id, retire=True)


async def _has_registration(partition: Partition, worker_id: str) -> bool:
    key = keys.worker(partition.index, worker_id)
    return bool(await partition.patiently(lambda: partition.redis.exists(key)))


async def _reclaim_all(partition: Partition, settings: Settings, worker_id: str, *, retire: bool) -> None:
    more = True
    while more:
        done = await steps.reclaim(
            partition,
            worker_id,
            retire=retire,
            max_crashes=settings.max_crashes,
            lifetime_ms=int(settings.max_job_lifetime * 1000),
            dead_retention_ms=int(settings.dead_retention * 1000),
        )
        more = done.more


def _checked(model: str, offer: ModelOffer) -> ModelOffer:
    if not 0 < offer.capacity <= _MAX_CAPACITY:
        raise InvalidInput(f"The capacity of '{model}' must be from 1 to {_MAX_CAPACITY}, not {offer.capacity}.")
    if offer.window and not offer.capacity <= offer.window <= 4 * _MAX_CAPACITY:
        raise InvalidInput(f"The window of '{model}' must be at least its capacity.")
    if offer.timeout_ms is not None and offer.timeout_ms <= 0:
        raise InvalidInput(f"The timeout of '{model}' must be above 0 seconds.")
    return msgspec.structs.replace(offer, window=offer.window or 2 * offer.capacity)
