"""GET /result/{request_id}: what became of a job, now or as soon as it is known."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from harness.api import Serve, problem
from harness.field import Field, until

from coordinator.core import keys


async def _waited_for(field: Field, request_id: str) -> None:
    async def there() -> bool:
        return bool(await field.redis.hexists(keys.waiters(0), request_id))

    await until(there)


async def test_a_job_is_shown_in_every_state(api: httpx.AsyncClient, field: Field) -> None:
    async def now() -> dict[str, Any]:
        response = await api.get(f"/result/{request_id}")
        assert response.status_code == 200
        shown: dict[str, Any] = response.json()
        assert shown["request_id"] == request_id
        assert shown["model"] == "m"
        assert datetime.fromisoformat(shown["submitted_at"]).tzinfo is not None
        return shown

    request_id = await field.put()
    assert ((await now())["status"], (await now())["attempts"]) == ("queued", 0)
    await field.assign()
    assert ((await now())["status"], (await now())["worker_id"]) == ("assigned", "w")
    (taken,) = await field.take()
    assert ((await now())["status"], (await now())["attempts"]) == ("running", 1)
    assert await field.fail_one(taken, delay_ms=60_000) == "retrying"
    assert (await now())["status"] == "retrying"
    await field.fall_due()
    await field.promote()
    await field.assign()
    (taken,) = await field.take()
    await field.complete(taken.done([1, None]))
    shown = await now()
    assert (shown["status"], shown["output"], shown["attempts"], shown["worker_id"]) == ("succeeded", [1, None], 2, "w")
    assert datetime.fromisoformat(shown["finished_at"]) >= datetime.fromisoformat(shown["submitted_at"])


async def test_an_output_of_null_is_an_output(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    await field.complete(taken.done(None))
    shown = (await api.get(f"/result/{taken.request_id}")).json()
    assert "output" in shown
    assert shown["output"] is None


async def test_a_large_output_is_read_from_out_of_line(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    await field.complete(taken.done("y" * 100_000, b"o"))
    assert (await api.get(f"/result/{taken.request_id}")).json()["output"] == "y" * 100_000


async def test_a_failure_says_why_and_names_its_dead_letter(api: httpx.AsyncClient, field: Field) -> None:
    shown = (await api.get(f"/result/{await field.buried()}")).json()
    assert shown["status"] == "failed"
    assert shown["error"] == {"type": "exception", "message": 'no "luck"'}
    assert shown["dead_letter"]
    assert "output" not in shown


@pytest.mark.parametrize(
    "request_id",
    ["0-5984846-jj6fdshcdbsuyxm6", "x", "1-5984846-jj6fdshcdbsuyxm6", "99999-1-jj6fdshcdbsuyxm6", "0-0-aaaaaaaaaaaaaaaa",
     "0-5984846-JJ6FDSHCDBSUYXM6", "%00", "%0a", "0-5984846-jj6fdshcdbsuyxm6%0a", "{0}", "a%2fb", "%ff", "x" * 10_000, ""],
)  # fmt: skip
async def test_an_unknown_or_malformed_id_is_not_found(api: httpx.AsyncClient, request_id: str) -> None:
    document = problem(
        await api.get(f"/result/{request_id}"), 404, "unknown-job" if request_id != "a%2fb" else "not-found"
    )
    assert len(document["detail"]) < 300


@pytest.mark.parametrize("wait", ["-1", "1e9", "60.5", "nan", "inf", "", "x", "0x10", "1,5", " 1", "١"])
async def test_a_wait_out_of_range_is_refused(api: httpx.AsyncClient, field: Field, wait: str) -> None:
    response = await api.get(f"/result/{await field.put()}", params={"wait": wait})
    document = problem(response, 422, "invalid-request")
    assert document["errors"][0]["parameter"] == "wait"
    assert "from 0 to 60" in document["detail"]


async def test_a_wait_ends_with_the_outcome(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    waits = [asyncio.create_task(api.get(f"/result/{taken.request_id}", params={"wait": 60})) for _ in range(20)]
    await _waited_for(field, taken.request_id)
    await field.complete(taken.done("done"))
    assert {(await wait).json()["output"] for wait in waits} == {"done"}


async def test_a_wait_is_preferred_by_header(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    # Far more than the longest wait: a preference is cut to what there is.
    wait = asyncio.create_task(api.get(f"/result/{taken.request_id}", headers={"Prefer": "wait=100000"}))
    await _waited_for(field, taken.request_id)
    await field.complete(taken.done("done"))
    response = await wait
    assert response.json()["output"] == "done"
    assert response.headers["preference-applied"] == "wait=60"


async def test_a_wait_for_a_large_output(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    wait = asyncio.create_task(api.get(f"/result/{taken.request_id}", params={"wait": 60}))
    await _waited_for(field, taken.request_id)
    await field.complete(taken.done("z" * 50_000, b"o"))
    assert (await wait).json()["output"] == "z" * 50_000


async def test_a_wait_ends_when_the_job_is_cancelled_or_dies(api: httpx.AsyncClient, field: Field) -> None:
    first, second = await field.given(), await field.given()
    waits = [asyncio.create_task(api.get(f"/result/{job.request_id}", params={"wait": 60})) for job in (first, second)]
    for job in (first, second):
        await _waited_for(field, job.request_id)
    assert await field.fail_one(first, "final") == "dead"
    assert (await api.delete(f"/inference/{second.request_id}")).status_code == 200
    assert [(await wait).json()["status"] for wait in waits] == ["failed", "cancelled"]


async def test_a_wait_that_is_over_says_what_holds(api: httpx.AsyncClient, field: Field) -> None:
    response = await api.get(f"/result/{await field.put()}", params={"wait": 0.02})
    assert (response.status_code, response.json()["status"]) == (200, "queued")


async def test_a_wait_for_an_unknown_job_is_over_at_once(api: httpx.AsyncClient) -> None:
    problem(await api.get("/result/0-5984846-jj6fdshcdbsuyxm6", params={"wait": 60}), 404, "unknown-job")


async def test_waits_cost_one_subscription(serve: Serve, field: Field) -> None:
    app, api = await serve()
    ids = await field.put_many(100)
    waits = [asyncio.create_task(api.get(f"/result/{request_id}", params={"wait": 60})) for request_id in ids]
    for request_id in ids:
        await _waited_for(field, request_id)
    channels = await field.redis.pubsub_channels("*")
    assert len(channels) == 1
    assert await field.redis.pubsub_numsub(*channels) == [(channels[0], 1)]
    # A process that stops lets them go with what holds.
    app.engine.stop_waiting()
    assert {(await wait).json()["status"] for wait in waits} == {"queued"}
    assert not app.engine.waits


async def test_many_who_ask_at_once_each_get_their_own(api: httpx.AsyncClient, field: Field) -> None:
    ids = await field.put_many(150)
    await field.assign()
    jobs = await field.take(count=16)
    await field.complete(*(job.done(job.request_id) for job in jobs))
    done = {job.request_id for job in jobs}
    asked = [*ids, "0-5984846-jj6fdshcdbsuyxm6"]
    answers = await asyncio.gather(*(api.get(f"/result/{request_id}") for request_id in asked))
    problem(answers[-1], 404, "unknown-job")
    for request_id, answer in zip(ids, answers, strict=False):
        shown = answer.json()
        assert shown["request_id"] == request_id
        assert shown.get("output") == (request_id if request_id in done else None)
    assert len(done) == 16
