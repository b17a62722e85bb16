"""Dead letters over HTTP: look, try again, throw away."""

from __future__ import annotations

import httpx
import pytest
from harness.api import problem
from harness.field import Field


async def test_a_dead_letter_says_what_happened(api: httpx.AsyncClient, field: Field) -> None:
    request_id = await field.buried(data=b'{"pixels":[1,2]}')
    letter = (await api.get(f"/dead/{request_id}")).json()
    assert (letter["request_id"], letter["model"], letter["attempts"], letter["worker_id"]) == (request_id, "m", 1, "w")
    assert letter["input"] == {"pixels": [1, 2]}
    assert letter["error"] == {"type": "exception", "message": 'no "luck"'}
    assert letter["reason"]
    assert (await api.get("/dead")).json() == {"dead": [letter]}


async def test_a_large_input_is_told_by_its_size(api: httpx.AsyncClient, field: Field) -> None:
    request_id = await field.buried(blob=b'"' + b"x" * 5000 + b'"')
    letter = (await api.get(f"/dead/{request_id}")).json()
    assert letter["input_bytes"] == 5002
    assert "input" not in letter


async def test_dead_letters_are_listed_newest_first(api: httpx.AsyncClient, field: Field) -> None:
    await field.register("w2", other="1:2")
    ids = [await field.buried() for _ in range(3)]

    async def listed(**query: object) -> list[str]:
        response = await api.get("/dead", params={name: str(value) for name, value in query.items()})
        return [letter["request_id"] for letter in response.json()["dead"]]

    assert await listed() == ids[::-1]
    assert await listed(count=2) == ids[:0:-1]
    assert await listed(model="m") == ids[::-1]
    assert await listed(model="other") == []
    for count in ("0", "-1", "1001", "x"):
        assert problem(await api.get("/dead", params={"count": count}), 422, "invalid-request")["errors"][0][
            "parameter"
        ] == ("count")


async def test_a_dead_letter_is_tried_again_once(api: httpx.AsyncClient, field: Field) -> None:
    request_id = await field.buried()
    first = await api.post(f"/dead/{request_id}/retry")
    assert first.status_code == 202
    again = first.json()
    assert (again["retry_of"], again["status"]) == (request_id, "queued")
    assert first.headers["location"] == f"/result/{again['request_id']}"
    # A lost answer is no reason for a second job.
    assert (await api.post(f"/dead/{request_id}/retry")).json() == again
    assert await field.lane("retry") + await field.lane() == [again["request_id"]]
    assert (await api.get(f"/result/{request_id}")).json()["retried_as"] == again["request_id"]
    assert (await api.get("/dead")).json() == {"dead": []}


async def test_a_dead_letter_is_thrown_away(api: httpx.AsyncClient, field: Field) -> None:
    request_id = await field.buried()
    assert (await api.delete(f"/dead/{request_id}")).status_code == 204
    problem(await api.delete(f"/dead/{request_id}"), 404, "unknown-dead-letter")
    problem(await api.get(f"/dead/{request_id}"), 404, "unknown-dead-letter")
    assert (await api.get(f"/result/{request_id}")).json()["status"] == "failed"


@pytest.mark.parametrize(
    "request_id", ["0-5984846-jj6fdshcdbsuyxm6", "9-5984846-jj6fdshcdbsuyxm6", "x", "%00", "x" * 5000]
)
async def test_an_unknown_dead_letter_is_not_found(api: httpx.AsyncClient, request_id: str) -> None:
    for request in (
        api.get(f"/dead/{request_id}"),
        api.post(f"/dead/{request_id}/retry"),
        api.delete(f"/dead/{request_id}"),
    ):
        problem(await request, 404, "unknown-dead-letter")


async def test_a_job_that_is_not_dead_has_no_dead_letter(api: httpx.AsyncClient, field: Field) -> None:
    request_id = await field.put()
    problem(await api.post(f"/dead/{request_id}/retry"), 404, "unknown-dead-letter")
