"""DELETE /inference/{request_id}: end a job wherever it is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from harness.api import problem
from harness.field import Field

from coordinator.core import steps


@pytest.mark.parametrize("where", ["queued", "delayed", "assigned", "running", "retrying"])
async def test_a_job_is_cancelled_wherever_it_is(api: httpx.AsyncClient, field: Field, where: str) -> None:
    options: dict[str, Any] = {"delay": 60_000} if where == "delayed" else {}
    request_id = await field.put(**options)
    if where in ("assigned", "running", "retrying"):
        await field.assign()
    if where in ("running", "retrying"):
        (taken,) = await field.take()
    if where == "retrying":
        await field.fail_one(taken, delay_ms=60_000)
    response = await api.delete(f"/inference/{request_id}")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["request_id"]) == ("cancelled", request_id)
    if where == "running":
        assert await steps.held(field.partition, "w", "m", [taken.entry]) == [taken.entry]
        assert await field.complete(taken.done()) == [0]
    assert (await api.get(f"/result/{request_id}")).json() == response.json()
    assert (await api.delete(f"/inference/{request_id}")).json() == response.json()
    await field.census()


async def test_what_is_over_stays_as_it_is(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    await field.complete(taken.done("output"))
    document = problem(await api.delete(f"/inference/{taken.request_id}"), 409, "invalid-state")
    assert (document["request_id"], document["job_status"]) == (taken.request_id, "succeeded")
    assert (await api.get(f"/result/{taken.request_id}")).json()["output"] == "output"


@pytest.mark.parametrize("request_id", ["0-5984846-jj6fdshcdbsuyxm6", "x", "batch", "%00"])
async def test_an_unknown_job_is_not_found(api: httpx.AsyncClient, request_id: str) -> None:
    problem(await api.delete(f"/inference/{request_id}"), 404, "unknown-job")
