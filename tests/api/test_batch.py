"""POST /inference/batch: every job is accepted or refused on its own, in order."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from harness.api import Serve, problem
from harness.field import Field

URL = "/inference/batch"


def kinds(response: httpx.Response) -> list[str]:
    """Per job `accepted`, or its problem's type."""
    assert response.status_code == 200, response.text
    return [
        item["problem"]["type"].removeprefix("/problems/") if "problem" in item else "accepted"
        for item in response.json()["results"]
    ]


async def test_one_bad_job_does_not_fail_the_others(api: httpx.AsyncClient, field: Field) -> None:
    jobs: list[Any] = [
        {"model": "m", "input": 0},
        {"model": "unheard-of", "input": 1},
        {"model": "m", "input": 2, "priority": "urgent"},
        {"model": "a b", "input": 3},
        5,
        {"model": "m", "input": 6},
    ]
    response = await api.post(URL, json=jobs)
    assert kinds(response) == [
        "accepted",
        "unknown-model",
        "invalid-request",
        "invalid-request",
        "invalid-request",
        "accepted",
    ]
    accepted = [item["request_id"] for item in response.json()["results"] if "request_id" in item]
    assert await field.lane() == accepted
    await field.assign()
    assert [taken.input for taken in await field.take()] == [0, 6]


async def test_an_order_is_kept_within_each_of_many_models(api: httpx.AsyncClient, field: Field) -> None:
    models = {f"m{i}": "100:100" for i in range(5)}
    await field.register("many", models=models)
    jobs = [{"model": f"m{i % 5}", "input": i} for i in range(300)]
    response = await api.post(URL, json=jobs)
    assert [item["model"] for item in response.json()["results"]] == [job["model"] for job in jobs]
    ids = [item["request_id"] for item in response.json()["results"]]
    for i in range(5):
        assert await field.lane(model=f"m{i}") == ids[i::5]


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/json", "application/x-www-form-urlencoded"]
)
async def test_a_job_per_line(api: httpx.AsyncClient, field: Field, content_type: str) -> None:
    lines = b'{"model":"m","input":0}\n\n  {"model":"m","input":1}\r\n{"model":"m","input":2}'
    response = await api.post(URL, content=lines, headers={"content-type": content_type})
    assert kinds(response) == ["accepted"] * 3


async def test_a_bad_line_does_not_fail_the_others(api: httpx.AsyncClient, field: Field) -> None:
    lines = b'{"model":"m","input":0}\n{"model":"m",\n{"model":"m","input":"\xff"}\n{"model":"m","input":3}\n'
    response = await api.post(URL, content=lines, headers={"content-type": "application/x-ndjson; charset=utf-8"})
    assert kinds(response) == ["accepted", "malformed-json", "malformed-json", "accepted"]


async def test_text_that_is_not_utf_8_fails_its_job_alone(api: httpx.AsyncClient, field: Field) -> None:
    response = await api.post(URL, content=b'[{"model":"m","input":"\xc3\xa9"},{"model":"m","input":"\xff"}]')
    assert kinds(response) == ["accepted", "malformed-json"]


async def test_depth_is_judged_job_by_job(api: httpx.AsyncClient, field: Field) -> None:
    shallow = [{"model": "m", "input": [[]]}] * 400
    deep = b'{"model":"m","input":' + b"[" * 600 + b"]" * 600 + b"}"
    response = await api.post(URL, content=json.dumps(shallow).encode()[:-1] + b"," + deep + b"]")
    assert kinds(response) == ["accepted"] * 400 + ["invalid-request"]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[", b'[{"model":"m","input":1}', b'[{"model":"m","input":1}]]'])
async def test_what_is_no_batch_at_all_is_malformed(api: httpx.AsyncClient, field: Field, body: bytes) -> None:
    problem(await api.post(URL, content=body), 422, "malformed-json")
    assert await field.lane() == []


@pytest.mark.parametrize("body", [b"1", b"null", b'"jobs"'])
async def test_what_is_neither_array_nor_lines_is_refused(api: httpx.AsyncClient, field: Field, body: bytes) -> None:
    problem(await api.post(URL, content=body), 422, "invalid-request")


async def test_an_empty_batch_is_fine(api: httpx.AsyncClient, field: Field) -> None:
    assert (await api.post(URL, content=b"[]")).json() == {"results": []}


async def test_the_limits_of_a_batch(serve: Serve, field: Field) -> None:
    _, api = await serve(max_batch_jobs=3, max_batch_bytes=2000, max_body_bytes=100)
    small = {"model": "m", "input": 1}
    assert kinds(await api.post(URL, json=[small] * 3)) == ["accepted"] * 3
    assert problem(await api.post(URL, json=[small] * 4), 413, "too-large")["limit"] == 3
    assert kinds(await api.post(URL, json=[small, {"model": "m", "input": "x" * 200}])) == ["accepted", "too-large"]
    assert problem(await api.post(URL, json=[{"model": "m", "input": "x" * 3000}]), 413, "too-large")["limit"] == 2000


async def test_a_backlog_that_fills_up_refuses_the_rest(serve: Serve, field: Field) -> None:
    _, api = await serve(max_backlog=2)
    response = await api.post(URL, json=[{"model": "m", "input": i} for i in range(4)])
    assert kinds(response) == ["accepted", "accepted", "backlog-full", "backlog-full"]
    assert int(response.headers["retry-after"]) >= 1


async def test_a_key_covers_each_job_of_the_batch(api: httpx.AsyncClient, field: Field) -> None:
    jobs = [{"model": "m", "input": i} for i in range(3)]
    first, second = [await api.post(URL, json=jobs, headers={"Idempotency-Key": "b"}) for _ in range(2)]
    assert first.json() == second.json()
    assert len(await field.lane()) == 3
    jobs[1]["input"] = 7
    third = await api.post(URL, json=jobs, headers={"Idempotency-Key": "b"})
    assert kinds(third) == ["accepted", "conflict", "accepted"]
