"""Health, paths and methods that are not served, and what each type of problem means."""

from __future__ import annotations

import inspect

import httpx
import pytest
from harness.api import Serve, in_process, problem
from harness.redis import RedisServer

from coordinator.api import problems
from coordinator.core import errors
from coordinator.core.settings import Settings


async def test_a_process_that_works_is_alive_and_ready(api: httpx.AsyncClient) -> None:
    assert (await api.get("/livez")).json() == {"status": "alive"}
    response = await api.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})


async def test_without_redis_it_is_alive_but_not_ready(serve: Serve) -> None:
    _, api = await serve(redis_url="redis://127.0.0.1:1/0", redis_patience=0.1)
    assert (await api.get("/livez")).status_code == 200
    response = await api.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert "Redis is not available" in response.json()["reasons"][0]
    for request in (
        api.post("/inference", json={"model": "m", "input": 1}),
        api.post("/inference/batch", json=[{"model": "m", "input": 1}]),
        api.get("/result/0-5984846-jj6fdshcdbsuyxm6"),
        api.get("/result/0-5984846-jj6fdshcdbsuyxm6", params={"wait": 5}),
        api.delete("/inference/0-5984846-jj6fdshcdbsuyxm6"),
        api.post("/register", json={"models": ["m"]}),
        api.get("/workers"),
        api.get("/models"),
        api.get("/dead"),
    ):
        problem(await request, 503, "redis-unavailable")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_throws_jobs_away_is_not_ready(own_redis: RedisServer, policy: str) -> None:
    with own_redis.client() as redis:
        redis.config_set("maxmemory-policy", policy)
        async with in_process(Settings(redis_url=own_redis.url())) as (_, api):
            response = await api.get("/readyz")
            assert response.status_code == 503
            assert policy in response.json()["reasons"][0]
            redis.config_set("maxmemory-policy", "noeviction")
            assert (await api.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/result", "/result/a/b", "/inference/a/b", "/workers/a/b", "/Inference"]
)
async def test_what_is_not_served_is_a_problem_document(api: httpx.AsyncClient, path: str) -> None:
    problem(await api.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/inference", "POST"),
        ("PUT", "/inference/batch", "POST"),
        ("DELETE", "/result/x", "GET, HEAD"),
        ("POST", "/workers", "GET"),
        ("PATCH", "/dead/x", "DELETE, GET"),
        ("GET", "/workers/w/drain", "POST"),
        ("POST", "/readyz", "GET"),
    ],
)
async def test_other_methods_are_told_which_are_served(
    api: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await api.request(method, path)
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allowed


async def test_each_type_of_problem_says_what_it_means(api: httpx.AsyncClient) -> None:
    for kind, entry in problems.KINDS.items():
        explained = (await api.get(f"/problems/{kind}")).json()
        assert explained == {
            "type": f"/problems/{kind}",
            "title": entry.title,
            "status": entry.status,
            "meaning": entry.meaning,
        }
    problem(await api.get("/problems/nothing"), 404, "not-found")


def test_every_error_of_the_core_has_a_type_of_its_own() -> None:
    raised = {
        errors.UnknownModel("m"),
        errors.BacklogFull("m"),
        errors.MemoryPressure(),
        errors.NotDurable("fsync"),
        errors.RedisUnavailable("gone"),
        errors.Conflict("0-1-x"),
        errors.InvalidInput("wrong"),
        errors.NotFound("nothing"),
        errors.InvalidState("over"),
        errors.Misconfigured("odd"),
    }
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass)} - {
        errors.CoordinatorError,
        errors.Refused,
    }
    assert {type(error) for error in raised} == classes
    kinds = [problems.of(error).kind for error in raised]
    assert len(set(kinds)) == len(kinds)
    assert "internal-error" not in kinds


def test_an_accident_gives_nothing_away() -> None:
    document = problems.document(problems.of(RuntimeError("password=hunter2")))
    assert document["status"] == 500
    assert "hunter2" not in str(document)
