"""Looking: what Redis says of workers, models and dead letters right now. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any, cast

import msgspec

from coordinator.core import keys
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import NotFound
from coordinator.core.records import DeadLetter, ModelOffer, WorkerView, decode_job, decode_problem
from coordinator.core.settings import Settings

_decode_offers = msgspec.json.Decoder(dict[str, ModelOffer]).decode


class ModelView(msgspec.Struct):
    """A model: who serves it, and what waits. `oldest_wait_seconds` is None when nothing waits."""

    workers: int
    capacity: int
    outstanding: int
    backlog: dict[str, int]
    oldest_wait_seconds: float | None


async def workers(
    connections: Connections, settings: Settings, *, model: str | None = None, state: str | None = None
) -> list[WorkerView]:
    """All workers known, or those of one model or state (live, draining, lost), by id; a worker of several partitions once."""
    found: dict[str, WorkerView] = {}
    for partition in connections.partitions:
        for view in await partition.patiently(partial(_workers_of, partition, settings)):
            there = found.get(view.worker_id)
            if there is None:
                found[view.worker_id] = view
            else:
                there.models.update(view.models)
                there.outstanding.update(view.outstanding)
                there.heartbeat_age_ms = max(there.heartbeat_age_ms, view.heartbeat_age_ms)
                if view.state == "lost":
                    there.state = "lost"
    return [
        view
        for _, view in sorted(found.items())
        if (model is None or model in view.models) and (state is None or state == view.state)
    ]


async def _workers_of(partition: Partition, settings: Settings) -> list[WorkerView]:
    redis, p = partition.redis, partition.index
    leases = await redis.zrange(keys.workers(p), 0, -1, withscores=True)
    now = await _now_ms(partition)
    ids = [raw.decode() for raw, _ in leases]
    async with redis.pipeline(transaction=False) as pipe:
        for worker_id in ids:
            pipe.hgetall(keys.worker(p, worker_id))
        hashes = await pipe.execute()
    views = []
    for worker_id, (_, lease), fields in zip(ids, leases, hashes, strict=True):
        if not fields:
            continue
        stored = fields[b"state"].decode()
        alive = lease > now and stored in ("live", "draining")
        views.append(
            WorkerView(
                worker_id=worker_id,
                state=stored if alive else "lost",
                models=_decode_offers(fields[b"models"]),
                outstanding={},
                heartbeat_age_ms=max(0, int(now - (lease - settings.lease_seconds * 1000))),
                registered_at=int(fields[b"registered_at"]),
                incarnation=fields[b"incarnation"].decode(),
                metadata=cast(dict[str, Any], msgspec.json.decode(fields[b"metadata"])),
            )
        )
    async with redis.pipeline(transaction=False) as pipe:
        for view in views:
            for name in view.models:
                pipe.xlen(keys.inbox(p, view.worker_id, name))
        lengths = iter(await pipe.execute())
    for view in views:
        view.outstanding = {name: next(lengths) for name in view.models}
    return views


async def models(connections: Connections, settings: Settings) -> dict[str, ModelView]:
    """All models ever registered, by name."""
    serving: dict[str, list[WorkerView]] = {}
    for view in await workers(connections, settings, state="live"):
        for name in view.models:
            serving.setdefault(name, []).append(view)
    found: dict[str, ModelView] = {}
    for partition in connections.partitions:
        for name, (backlog, oldest) in (await partition.patiently(partial(_backlogs_of, partition))).items():
            live = serving.get(name, [])
            found[name] = ModelView(
                workers=len(live),
                capacity=sum(view.models[name].capacity for view in live),
                outstanding=sum(view.outstanding[name] for view in live),
                backlog=backlog,
                oldest_wait_seconds=oldest,
            )
    return dict(sorted(found.items()))


async def _backlogs_of(partition: Partition) -> dict[str, tuple[dict[str, int], float | None]]:
    redis, p = partition.redis, partition.index
    known = await model_names(partition)
    now = await _now_ms(partition)
    async with redis.pipeline(transaction=False) as pipe:
        for name in known:
            for lane in keys.LANES:
                pipe.xlen(keys.jobs(p, name, lane))
                pipe.xrange(keys.jobs(p, name, lane), count=1)
        replies = iter(await pipe.execute())
    found: dict[str, tuple[dict[str, int], float | None]] = {}
    for name in known:
        backlog: dict[str, int] = {}
        oldest: float | None = None
        for lane in keys.LANES:
            backlog[lane] = next(replies)
            for entry, _ in next(replies):
                age = max(0.0, (now - int(entry.split(b"-")[0])) / 1000)
                oldest = age if oldest is None else max(oldest, age)
        found[name] = (backlog, oldest)
    return found


class Serving(msgspec.Struct, frozen=True):
    """A worker and one of the models that it serves."""

    worker_id: str
    model: str
    offer: ModelOffer


async def serving_of(partition: Partition) -> list[Serving]:
    """Every worker registered in the partition, with every model that it serves."""
    redis, p = partition.redis, partition.index
    ids = [raw.decode() for raw in await redis.zrange(keys.workers(p), 0, -1)]
    async with redis.pipeline(transaction=False) as pipe:
        for worker_id in ids:
            pipe.hget(keys.worker(p, worker_id), "models")
        stored = await pipe.execute()
    return [
        Serving(worker_id, model, offer)
        for worker_id, offers in zip(ids, stored, strict=True)
        if offers is not None
        for model, offer in _decode_offers(offers).items()
    ]


async def serving_names(partition: Partition, model: str) -> list[str]:
    """The workers that take work of the model, in a fixed order."""
    return sorted(raw.decode() for raw in await partition.redis.hkeys(keys.serving(partition.index, model)))


async def rosters_of(partition: Partition) -> dict[str, list[str]]:
    """Of each model that at least two workers take work of, their names, in a fixed order."""
    models = await model_names(partition)
    async with partition.redis.pipeline(transaction=False) as pipe:
        for model in models:
            pipe.hkeys(keys.serving(partition.index, model))
        rows = await pipe.execute()
    return {
        model: sorted(raw.decode() for raw in row) for model, row in zip(models, rows, strict=True) if len(row) >= 2
    }


async def model_names(partition: Partition) -> list[str]:
    """Every model ever registered in the partition."""
    return [
        raw.decode() for raw in await cast(Awaitable[list[bytes]], partition.redis.hkeys(keys.models(partition.index)))
    ]


async def audit_findings(connections: Connections) -> dict[str, int]:
    """What the last whole walk of the background audit found, by kind; empty until the first walk is over."""
    found: dict[str, int] = {}
    for partition in connections.partitions:
        kept = await partition.patiently(partial(partition.redis.hgetall, keys.audit(partition.index)))
        for name, count in kept.items():
            if name != b"finished_at":
                found[name.decode()] = found.get(name.decode(), 0) + int(count)
    return found


async def dead_letters(connections: Connections, *, count: int = 100, model: str | None = None) -> list[DeadLetter]:
    """The newest dead letters, newest first, at most `count`; of one model if `model` says so."""
    if model is not None:
        parts: tuple[Partition, ...] = (connections.of_model(model),)
    else:
        parts = connections.partitions
    letters = [
        letter
        for some in await asyncio.gather(*(p.patiently(partial(_dead_of, p, count, model)) for p in parts))
        for letter in some
    ]
    letters.sort(key=lambda letter: letter.died_at, reverse=True)
    return letters[:count]


async def dead_letter(connections: Connections, request_id: str) -> DeadLetter:
    """One dead letter. Raises `NotFound`."""
    partition = connections.of_request(request_id)

    async def look() -> DeadLetter | None:
        index = await cast(Awaitable[bytes | None], partition.redis.hget(keys.dead_index(partition.index), request_id))
        if index is None:
            return None
        rows = await partition.redis.xrange(keys.dead(partition.index), index, index)
        return _letter(rows[0][0], rows[0][1]) if rows else None

    letter = await partition.patiently(look)
    if letter is None:
        raise NotFound(f"There is no dead letter with the request id '{request_id}'.")
    return letter


async def _dead_of(partition: Partition, count: int, model: str | None) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    upper = "+"
    while len(letters) < count:
        rows = await partition.redis.xrevrange(keys.dead(partition.index), upper, "-", count=min(max(count, 100), 1000))
        for entry, fields in rows:
            if model is None or fields[b"model"].decode() == model:
                letters.append(_letter(entry, fields))
        if not rows:
            break
        upper = f"({rows[-1][0].decode()}"
    return letters[:count]


def _letter(entry: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    crashed = fields.get(b"crashed", b"").decode()
    return DeadLetter(
        request_id=fields[b"id"].decode(),
        entry=entry.decode(),
        model=fields[b"model"].decode(),
        reason=fields[b"reason"].decode(),
        attempts=int(fields[b"attempts"]),
        died_at=int(fields[b"died_at"]),
        worker_id=fields[b"worker"].decode() or None,
        error=decode_problem(fields[b"error"]),
        job=decode_job(fields[b"job"]),
        crashed_workers=crashed.split(",") if crashed else [],
    )


async def _now_ms(partition: Partition) -> int:
    seconds, micros = await partition.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
