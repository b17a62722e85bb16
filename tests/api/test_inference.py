"""POST /inference: what is accepted, what is refused, and how both are said."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from harness.api import Serve, problem
from harness.field import Field

from coordinator.core import keys

URL = "/inference"


def job(**members: Any) -> dict[str, Any]:
    return {"model": "m", "input": [1, {"a": None}], **members}


async def test_a_job_is_accepted_and_waits_in_its_lane(api: httpx.AsyncClient, field: Field) -> None:
    response = await api.post(URL, json=job(priority="high"))
    assert response.status_code == 202
    accepted = response.json()
    assert accepted == {"request_id": accepted["request_id"], "status": "queued", "model": "m"}
    assert response.headers["location"] == f"/result/{accepted['request_id']}"
    assert await field.lane("high") == [accepted["request_id"]]
    assert (await api.get(response.headers["location"])).json()["status"] == "queued"


async def test_the_input_reaches_the_worker_as_it_is(api: httpx.AsyncClient, field: Field) -> None:
    text = '{"model": "m", "input": {"x":  [1.0, 1e3, 12345678901234567890], "\\u00e9": ",\\"input\\":"}}'
    assert (await api.post(URL, content=text)).status_code == 202
    await field.assign()
    (_, entry), *_ = await field.redis.xrange(keys.inbox(0, "w", "m"))
    assert entry[b"job"].endswith(text.split('"input": ')[1][:-1].encode() + b"}")
    (taken,) = await field.take()
    assert taken.input == json.loads(text)["input"]


async def test_what_is_asked_for_is_kept(api: httpx.AsyncClient, field: Field) -> None:
    wanted = job(timeout_seconds=1.5, max_attempts=7, deadline_seconds=60)
    record = await field.record((await api.post(URL, json=wanted)).json()["request_id"])
    assert (record.timeout_ms, record.max_attempts) == (1500, 7)
    assert record.deadline_at == record.submitted_at + 60_000


async def test_a_delayed_job_is_parked(api: httpx.AsyncClient, field: Field) -> None:
    request_id = (await api.post(URL, json=job(delay_seconds=30))).json()["request_id"]
    assert await field.lane() == []
    await field.fall_due()
    await field.promote()
    assert await field.lane() == [request_id]


async def test_absent_options_may_be_null(api: httpx.AsyncClient, field: Field) -> None:
    nulls = {"timeout_seconds": None, "max_attempts": None, "deadline_seconds": None, "durability": None}
    assert (await api.post(URL, json=job(**nulls))).status_code == 202


async def test_workers_that_are_away_are_named(api: httpx.AsyncClient, field: Field) -> None:
    assert "workers_away" not in (await api.post(URL, json=job())).json()
    assert (await api.delete("/workers/w")).status_code == 204
    response = await api.post(URL, json=job())
    assert response.status_code == 202
    assert response.json()["workers_away"] is True


async def test_an_unknown_model_is_not_found(api: httpx.AsyncClient, field: Field) -> None:
    assert problem(await api.post(URL, json=job(model="other/Model-1.5_b")), 404, "unknown-model")["model"] == (
        "other/Model-1.5_b"
    )


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\nb", "a\r\nX: y", "a{b}", "{0}", "a:b", "..", "/a", "-a", "é", "\x00", "m" * 201, "x" * 10_000],
    ids=repr,
)
async def test_an_evil_model_name_is_refused(api: httpx.AsyncClient, field: Field, name: str) -> None:
    response = await api.post(URL, json=job(model=name))
    document = problem(response, 422, "invalid-request")
    assert len(document["detail"]) < 500
    assert "\n" not in document["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"model":"m","input":}', b'{"model":"m","input":[1,2}', b'{"model":"m","input":1} x',
     b'{"model":"m","input":NaN}', b'{"model":"m","input":"\xff"}', b'\xef\xbb\xbf{"model":"m","input":1}',
     b'{"model":"m","input":"a\nb"}'],
)  # fmt: skip
async def test_malformed_json_is_refused(api: httpx.AsyncClient, field: Field, body: bytes) -> None:
    problem(await api.post(URL, content=body), 422, "malformed-json")
    assert await field.lane() == []


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"model": 1}, "#/model"),
        ({"model": None}, "#/model"),
        ({"priority": "urgent"}, "#/priority"),
        ({"timeout_seconds": 0}, "#/timeout_seconds"),
        ({"timeout_seconds": "1"}, "#/timeout_seconds"),
        ({"timeout_seconds": 1e9}, "#/timeout_seconds"),
        ({"max_attempts": 0}, "#/max_attempts"),
        ({"max_attempts": 101}, "#/max_attempts"),
        ({"max_attempts": 1.5}, "#/max_attempts"),
        ({"max_attempts": True}, "#/max_attempts"),
        ({"delay_seconds": -1}, "#/delay_seconds"),
        ({"delay_seconds": 3600}, "#/delay_seconds"),
        ({"deadline_seconds": 0}, "#/deadline_seconds"),
        ({"deadline_seconds": 1e12}, "#/deadline_seconds"),
        ({"durability": "hope"}, "#/durability"),
        ({"prio": 1}, "#/prio"),
    ],
    ids=repr,
)
async def test_a_wrong_value_is_named(
    api: httpx.AsyncClient, field: Field, members: dict[str, Any], pointer: str
) -> None:
    document = problem(await api.post(URL, json=job(**members)), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == pointer
    assert await field.lane() == []


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"m"', b"{}", b'{"model":"m"}', b'{"input":1}'])
async def test_what_is_no_job_is_refused(api: httpx.AsyncClient, field: Field, body: bytes) -> None:
    problem(await api.post(URL, content=body), 422, "invalid-request")


async def test_an_input_may_be_deep_but_not_bottomless(api: httpx.AsyncClient, field: Field) -> None:
    def nested(depth: int) -> bytes:
        return b'{"model":"m","input":' + b"[" * depth + b"]" * depth + b"}"

    assert (await api.post(URL, content=nested(400))).status_code == 202
    problem(await api.post(URL, content=nested(600)), 422, "invalid-request")
    problem(await api.post(URL, content=nested(100_000)), 422, "invalid-request")
    brackets_in_text = json.dumps(job(input="[{" * 5000))
    assert (await api.post(URL, content=brackets_in_text)).status_code == 202


async def test_a_body_over_the_limit_is_too_large(serve: Serve, field: Field) -> None:
    _, api = await serve(max_body_bytes=1000)
    fits = job(input="x" * 960)
    assert (await api.post(URL, json=fits)).status_code == 202
    assert problem(await api.post(URL, json=job(input="x" * 1000)), 413, "too-large")["limit"] == 1000


async def test_an_endless_body_is_refused_before_its_end(serve: Serve, field: Field) -> None:
    _, api = await serve(max_body_bytes=1000)
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        while True:
            sent += 100
            yield b" " * 100

    problem(await api.post(URL, content=chunks()), 413, "too-large")
    assert sent < 2000


async def test_a_large_input_is_kept_out_of_line(api: httpx.AsyncClient, field: Field) -> None:
    request_id = (await api.post(URL, json=job(input="x" * 100_000))).json()["request_id"]
    assert (await field.record(request_id)).input_bytes == 100_002
    assert await field.redis.strlen(keys.blob(0, request_id, "in")) == 100_002


async def test_a_key_makes_a_repeat_safe(api: httpx.AsyncClient, field: Field) -> None:
    headers = {"Idempotency-Key": "order 7"}
    first, second = [await api.post(URL, json=job(), headers=headers) for _ in range(2)]
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert len(await field.lane()) == 1
    other = await api.post(URL, json=job(input=2), headers=headers)
    assert problem(other, 409, "conflict")["request_id"] == first.json()["request_id"]


@pytest.mark.parametrize("key", ["", "x" * 201, "caf\xe9"])
async def test_a_key_must_be_short_and_printable(api: httpx.AsyncClient, field: Field, key: str) -> None:
    response = await api.post(URL, json=job(), headers={b"Idempotency-Key": key.encode("latin-1")})
    assert problem(response, 422, "invalid-request")["errors"][0]["header"] == "Idempotency-Key"


async def test_a_full_backlog_refuses_and_says_when_to_come_again(serve: Serve, field: Field) -> None:
    _, api = await serve(max_backlog=3)
    answers = [await api.post(URL, json=job(input=i)) for i in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503, 503]
    document = problem(answers[-1], 503, "backlog-full")
    assert document["model"] == "m"
    assert document["retry_after"] > 0
    await field.assign()
    assert (await api.post(URL, json=job())).status_code == 202


async def test_a_waiting_submission_answers_with_the_outcome(api: httpx.AsyncClient, field: Field) -> None:
    async def work() -> None:
        await field.assign()
        (taken,) = await field.take()
        await field.complete(taken.done({"label": 4}))

    submission = asyncio.create_task(api.post(URL, params={"wait": 20}, json=job()))
    while not await field.lane():
        await asyncio.sleep(0)
    await work()
    response = await submission
    assert response.status_code == 200
    assert response.json()["output"] == {"label": 4}
    assert response.headers["location"] == f"/result/{response.json()['request_id']}"


async def test_a_wait_that_ends_first_leaves_an_accepted_job(api: httpx.AsyncClient, field: Field) -> None:
    response = await api.post(URL, json=job(), headers={"Prefer": "respond-async, wait=0"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=0"
    response = await api.post(URL, params={"wait": "0.01"}, json=job())
    assert response.status_code == 202
    assert "preference-applied" not in response.headers


async def test_a_duplicate_that_is_done_answers_at_once(api: httpx.AsyncClient, field: Field) -> None:
    headers = {"Idempotency-Key": "once"}
    await api.post(URL, json=job(), headers=headers)
    await field.assign()
    (taken,) = await field.take()
    await field.complete(taken.done(9))
    response = await api.post(URL, params={"wait": 20}, json=job(), headers=headers)
    assert (response.status_code, response.json()["output"]) == (200, 9)


async def test_a_durability_that_is_not_reached_is_not_accepted(serve: Serve, field: Field) -> None:
    _, api = await serve(durability_wait=0.05)
    response = await api.post(URL, json=job(durability="replicated"), headers={"Idempotency-Key": "k"})
    problem(response, 503, "not-durable")
    assert (await api.post(URL, json=job(durability="memory"))).status_code == 202


async def test_many_at_once_are_all_accepted(api: httpx.AsyncClient, field: Field) -> None:
    answers = await asyncio.gather(*(api.post(URL, json=job(input=i)) for i in range(300)))
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.json()["request_id"] for answer in answers}
    assert ids == set(await field.lane())
    assert len(ids) == 300
