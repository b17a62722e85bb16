"""Membership: a worker in several partitions, and one id with two lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from harness.field import Field

from coordinator.core import keys, membership, views
from coordinator.core.connection import Connections
from coordinator.core.errors import InvalidInput, NotFound
from coordinator.core.records import ModelOffer
from coordinator.core.settings import Settings

THREE = 3

MODELS = {keys.partition_of(name, THREE): name for name in (f"model-{i}" for i in range(20))}
"""One model of each partition."""


@pytest.fixture
async def several(settings: Settings) -> AsyncIterator[Connections]:
    """Three partitions on one server."""
    settings = settings.model_copy(update={"partitions": THREE})
    async with await Connections.open(settings, client_name="tests") as connections:
        yield connections


async def _register(
    connections: Connections, settings: Settings, *models: str, worker_id: str | None = "w", **options: Any
) -> membership.Registration:
    return await membership.register(
        connections,
        settings,
        worker_id=worker_id,
        models={model: ModelOffer(capacity=2) for model in models},
        metadata={},
        **options,
    )


async def test_a_worker_is_told_all_it_needs(connections: Connections, settings: Settings, field: Field) -> None:
    told = await membership.register(
        connections,
        settings,
        worker_id=None,
        models={"a/b": ModelOffer(capacity=4, timeout_ms=1500), "c": ModelOffer()},
        metadata={"host": "here"},
    )
    assert told.worker_id
    assert told.incarnation
    assert (told.lease_seconds, told.heartbeat_seconds) == (settings.lease_seconds, settings.heartbeat_seconds)
    assert told.redis_url == settings.redis_url
    assert told.models["a/b"].timeout_seconds == 1.5
    assert told.models["c"].timeout_seconds == settings.default_timeout
    assert await field.redis.exists(told.models["a/b"].stream)
    assert await field.redis.hget(keys.serving(0, "a/b"), told.worker_id) == b"4:8"


async def test_the_url_that_a_worker_is_told_has_no_password(connections: Connections, settings: Settings) -> None:
    secret = settings.model_copy(update={"redis_url": "redis://u:secret@host/0"})
    assert (await _register(connections, secret, "m")).redis_url == "redis://host/0"
    named = settings.model_copy(update={"advertise_redis_url": "redis://outside/0"})
    assert (await _register(connections, named, "m")).redis_url == "redis://outside/0"


async def test_it_joins_the_partition_of_each_model(several: Connections, settings: Settings) -> None:
    told = await _register(several, settings, *MODELS.values())
    assert {told.models[model].partition for model in MODELS.values()} == {0, 1, 2}
    (view,) = await views.workers(several, settings)
    assert set(view.models) == set(MODELS.values())
    assert await membership.heartbeat(several, settings, "w", told.incarnation) == "live"
    await membership.drain(several, "w")
    assert await membership.heartbeat(several, settings, "w", told.incarnation) == "draining"
    await membership.retire(several, settings, "w")
    assert await membership.heartbeat(several, settings, "w", told.incarnation) == "unknown"
    assert await views.workers(several, settings) == []


async def test_partitions_that_it_does_not_serve_do_not_matter(several: Connections, settings: Settings) -> None:
    told = await _register(several, settings, MODELS[1])
    assert await membership.heartbeat(several, settings, "w", told.incarnation) == "live"
    assert await membership.heartbeat(several, settings, "w", "other") == "superseded"


async def test_a_second_life_takes_over_in_all_partitions(several: Connections, settings: Settings) -> None:
    """Also where it serves nothing any more."""
    fields = [Field(partition) for partition in several.partitions]
    first = await _register(several, settings, *MODELS.values())
    held = []
    for p, model in MODELS.items():
        await fields[p].put(model)
        await fields[p].assign("w", model=model)
        held += await fields[p].take("w", model)
    assert len(held) == THREE
    second = await _register(several, settings, MODELS[0])
    assert await membership.heartbeat(several, settings, "w", second.incarnation) == "live"
    assert await membership.heartbeat(several, settings, "w", first.incarnation) == "superseded"
    for p, model in MODELS.items():
        assert len(await fields[p].lane("retry", model)) == 1
        await fields[p].census()
    (view,) = await views.workers(several, settings)
    assert set(view.models) == {MODELS[0]}


async def test_the_same_life_may_register_again(connections: Connections, settings: Settings, field: Field) -> None:
    first = await _register(connections, settings, "m")
    job = await field.given()
    again = await _register(connections, settings, "m", incarnation=first.incarnation)
    assert again.incarnation == first.incarnation
    assert await field.complete(job.done()) == [1]


async def test_retiring_gives_all_back(connections: Connections, settings: Settings, field: Field) -> None:
    await _register(connections, settings, "m")
    job = await field.given()
    await membership.retire(connections, settings, "w")
    assert await field.lane("retry") == [job.request_id]
    assert (await field.record(job.request_id)).attempts == 0


async def test_nobody_can_not_be_drained_or_retired(connections: Connections, settings: Settings) -> None:
    with pytest.raises(NotFound):
        await membership.drain(connections, "nobody")
    with pytest.raises(NotFound):
        await membership.retire(connections, settings, "nobody")
    assert await membership.heartbeat(connections, settings, "nobody") == "unknown"


@pytest.mark.parametrize(
    ("worker_id", "models"),
    [
        ("a b", {"m": ModelOffer()}),
        ("a:b", {"m": ModelOffer()}),
        ("w", {}),
        ("w", {f"m{i}": ModelOffer() for i in range(101)}),
        ("w", {"a b": ModelOffer()}),
        ("w", {"m": ModelOffer(capacity=0)}),
        ("w", {"m": ModelOffer(capacity=10**9)}),
        ("w", {"m": ModelOffer(capacity=4, window=3)}),
        ("w", {"m": ModelOffer(timeout_ms=0)}),
    ],
)
async def test_bad_registrations(
    connections: Connections, settings: Settings, worker_id: str, models: dict[str, ModelOffer]
) -> None:
    with pytest.raises(InvalidInput):
        await membership.register(connections, settings, worker_id=worker_id, models=models, metadata={})


async def test_a_lease_lost_in_one_partition_alone_must_be_entered_again(
    several: Connections, settings: Settings
) -> None:
    """Its other partitions must not hide that nobody gives it work there any more."""
    told = await _register(several, settings, *MODELS.values())
    lost = Field(several.partitions[1])
    await lost.end_lease()
    await lost.reclaim()
    assert await membership.heartbeat(several, settings, "w", told.incarnation) == "unknown"
