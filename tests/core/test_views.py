"""Views and results: what people see."""

from __future__ import annotations

import msgspec
import pytest
from harness.field import Field

from coordinator.core import membership, steps, views
from coordinator.core.connection import Connections
from coordinator.core.errors import NotFound
from coordinator.core.records import ModelOffer
from coordinator.core.results import result_of
from coordinator.core.settings import Settings


async def test_workers_with_their_state_and_their_work(
    field: Field, connections: Connections, settings: Settings
) -> None:
    await field.register("live", m="4:8", x="1:2")
    await field.given("live")
    await field.register("draining")
    await steps.drain(field.partition, "draining")
    await field.register("lost")
    await field.end_lease("lost")
    found = await views.workers(connections, settings)
    assert [(view.worker_id, view.state) for view in found] == [
        ("draining", "draining"),
        ("live", "live"),
        ("lost", "lost"),
    ]
    live = found[1]
    assert live.models == {"m": ModelOffer(capacity=4, window=8), "x": ModelOffer(capacity=1, window=2)}
    assert live.outstanding == {"m": 1, "x": 0}
    assert [view.worker_id for view in await views.workers(connections, settings, model="x")] == ["live"]
    assert [view.worker_id for view in await views.workers(connections, settings, state="lost")] == ["lost"]
    assert await views.workers(connections, settings, model="nobody") == []


async def test_a_worker_says_how_long_ago_it_was_heard_of(
    field: Field, connections: Connections, settings: Settings
) -> None:
    await membership.register(
        connections, settings, worker_id="w", models={"m": ModelOffer()}, metadata={"host": "here", "gpu": None}
    )
    (view,) = await views.workers(connections, settings)
    assert 0 <= view.heartbeat_age_ms < 5000
    assert view.metadata == {"host": "here", "gpu": None}
    assert abs(view.registered_at - await field.now_ms()) < 5000


async def test_models_with_their_backlog(field: Field, connections: Connections, settings: Settings) -> None:
    await field.register("a", m="4:8")
    await field.register("b", m="2:8", idle="1:1")
    await field.given("a")
    await field.put(lane="high")
    await field.put_many(2)
    found = await views.models(connections, settings)
    assert list(found) == ["idle", "m"]
    m = found["m"]
    assert (m.workers, m.capacity, m.outstanding) == (2, 6, 1)
    assert m.backlog == {"retry": 0, "high": 1, "normal": 2, "low": 0}
    assert m.oldest_wait_seconds is not None
    assert 0 <= m.oldest_wait_seconds < 60
    assert found["idle"].oldest_wait_seconds is None


async def test_dead_letters_newest_first(field: Field, connections: Connections) -> None:
    await field.register(m="4:8", x="4:8")
    ids = [await field.buried() for _ in range(3)]
    found = await views.dead_letters(connections)
    assert [letter.request_id for letter in found] == ids[::-1]
    assert [letter.request_id for letter in await views.dead_letters(connections, count=2)] == ids[:0:-1]
    assert await views.dead_letters(connections, model="x") == []
    letter = await views.dead_letter(connections, ids[0])
    assert (letter.reason, letter.attempts, letter.worker_id, letter.job.model) == ("final", 1, "w", "m")
    assert letter.error is not None
    assert letter.error.type == "exception"
    for request_id in (field.request_id(await field.now_ms()), "nonsense"):
        with pytest.raises(NotFound):
            await views.dead_letter(connections, request_id)


async def test_a_dead_letter_names_the_workers_it_took_down(field: Field, connections: Connections) -> None:
    await field.register("a")
    job = await field.given("a")
    await field.end_lease("a")
    await field.reclaim("a", max_crashes=1)
    letter = await views.dead_letter(connections, job.request_id)
    assert (letter.reason, letter.crashed_workers) == ("poison", ["a"])


async def test_a_result_from_beginning_to_end(field: Field) -> None:
    await field.register()
    request_id = await field.put()

    async def result() -> dict[str, object]:
        (found,) = await steps.read(field.partition, [request_id])
        assert found is not None
        told: dict[str, object] = msgspec.json.decode(msgspec.json.encode(result_of(request_id, found)))
        assert str(told.pop("submitted_at")).endswith("Z")
        told.pop("finished_at", None)
        return told

    same = {"request_id": request_id, "model": "m"}
    assert await result() == {**same, "status": "queued", "attempts": 0}
    await field.assign()
    assert await result() == {**same, "status": "assigned", "attempts": 0, "worker_id": "w"}
    (job,) = await field.take()
    assert await result() == {**same, "status": "running", "attempts": 1, "worker_id": "w"}
    await field.fail_one(job, delay_ms=1000)
    problem = {"type": "exception", "message": 'no "luck"'}
    assert await result() == {**same, "status": "retrying", "attempts": 1, "error": problem}
    await field.fall_due()
    await field.promote()
    await field.assign()
    (job,) = await field.take()
    await field.complete(job.done([1]))
    assert await result() == {**same, "status": "succeeded", "attempts": 2, "worker_id": "w", "output": [1]}
