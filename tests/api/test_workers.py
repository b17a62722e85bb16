"""Workers over HTTP: register, stay alive, drain, leave, be listed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest
from harness.api import Serve, problem
from harness.field import Field

from coordinator.core import keys
from coordinator.core.connection import Connections

GPU = {"worker_id": "gpu-1", "models": {"digits": {"capacity": 8, "version": "1"}}, "metadata": {"device": "cuda:0"}}


async def test_a_worker_is_told_all_that_it_needs(api: httpx.AsyncClient, connections: Connections) -> None:
    response = await api.post("/register", json=GPU)
    assert response.status_code == 201
    told = response.json()
    assert told["worker_id"] == "gpu-1"
    assert told["lease_seconds"] > 2 * told["heartbeat_seconds"] - 1e-9
    placement = told["models"]["digits"]
    assert placement["stream"] == keys.inbox(0, "gpu-1", "digits")
    assert (placement["group"], placement["partition"]) == ("worker", 0)
    # It can read there at once.
    redis: Any = connections.partitions[0].redis
    assert [group["name"] for group in await redis.xinfo_groups(placement["stream"])] == [b"worker"]


async def test_models_may_be_just_names(api: httpx.AsyncClient) -> None:
    told = (await api.post("/register", json={"models": ["digits", "meta-llama/Llama-3.1-8B"]})).json()
    assert set(told["models"]) == {"digits", "meta-llama/Llama-3.1-8B"}
    listed = (await api.get("/workers")).json()["workers"]
    assert [worker["worker_id"] for worker in listed] == [told["worker_id"]]
    assert listed[0]["models"]["digits"]["capacity"] == 1


async def test_ids_are_unique_by_default(api: httpx.AsyncClient) -> None:
    ids = {(await api.post("/register", json={"models": ["digits"]})).json()["worker_id"] for _ in range(5)}
    assert len(ids) == 5


async def test_a_worker_is_listed_as_it_is(api: httpx.AsyncClient) -> None:
    await api.post("/register", json=GPU)
    for i in range(3):
        await api.post("/inference", json={"model": "digits", "input": i})
    (worker,) = (await api.get("/workers")).json()["workers"]
    assert worker["worker_id"] == "gpu-1"
    assert worker["state"] == "live"
    assert worker["metadata"] == {"device": "cuda:0"}
    assert worker["models"]["digits"] == {"capacity": 8, "outstanding": 0, "window": 16, "version": "1"}
    assert 0 <= worker["heartbeat_age_seconds"] < 10
    assert datetime.fromisoformat(worker["registered_at"]).tzinfo is not None


async def test_what_a_worker_holds_is_counted(api: httpx.AsyncClient, field: Field) -> None:
    await field.put_many(3)
    await field.assign()
    (worker,) = (await api.get("/workers")).json()["workers"]
    assert worker["models"]["m"]["outstanding"] == 3


async def test_workers_are_filtered(api: httpx.AsyncClient, field: Field) -> None:
    await api.post("/register", json=GPU)
    await api.post("/workers/gpu-1/drain")
    await field.register("lost", m="1:1")
    await field.end_lease("lost")

    async def listed(**filters: str) -> list[str]:
        return [worker["worker_id"] for worker in (await api.get("/workers", params=filters)).json()["workers"]]

    assert await listed() == ["gpu-1", "lost", "w"]
    assert await listed(model="m") == ["lost", "w"]
    assert await listed(state="draining") == ["gpu-1"]
    assert await listed(state="lost", model="m") == ["lost"]
    assert await listed(state="live", model="digits") == []
    assert await listed(model="a b\n{}") == []
    problem(await api.get("/workers", params={"state": "zombie"}), 422, "invalid-request")


async def test_a_heartbeat_renews_the_lease(api: httpx.AsyncClient, field: Field) -> None:
    told = (await api.post("/register", json=GPU)).json()
    await field.redis.zadd(keys.workers(0), {"gpu-1": await field.now_ms() + 5})
    beat = {"incarnation": told["incarnation"]}
    response = await api.post("/workers/gpu-1/heartbeat", json=beat)
    assert response.json() == {"worker_id": "gpu-1", "state": "live"}
    assert await field.redis.zscore(keys.workers(0), "gpu-1") > await field.now_ms() + 5000
    # Nobody has to say who they are.
    assert (await api.post("/workers/gpu-1/heartbeat")).json()["state"] == "live"


async def test_an_id_that_is_taken_over_fences_the_first(api: httpx.AsyncClient, field: Field) -> None:
    first = (await api.post("/register", json=GPU)).json()
    await field.put("digits")
    await field.assign("gpu-1", model="digits")
    second = (await api.post("/register", json=GPU)).json()
    assert first["incarnation"] != second["incarnation"]
    beat = {"incarnation": first["incarnation"]}
    problem(await api.post("/workers/gpu-1/heartbeat", json=beat), 409, "superseded")
    assert (await api.post("/workers/gpu-1/heartbeat", json={"incarnation": second["incarnation"]})).status_code == 200
    assert await field.inbox("gpu-1", "digits") == []
    assert len(await field.lane("retry", "digits")) == 1


async def test_a_draining_worker_gets_nothing_new(api: httpx.AsyncClient, field: Field) -> None:
    assert (await api.post("/workers/w/drain")).json() == {"worker_id": "w", "state": "draining"}
    await field.put()
    assert (await field.assign("w")).moved == 0
    assert (await api.post("/workers/w/heartbeat")).json()["state"] == "draining"


async def test_a_retired_worker_leaves_its_work_to_others(api: httpx.AsyncClient, field: Field) -> None:
    taken = await field.given()
    assert (await api.delete("/workers/w")).status_code == 204
    assert (await api.get("/workers")).json() == {"workers": []}
    assert await field.lane("retry") == [taken.request_id]
    problem(await api.post("/workers/w/heartbeat"), 404, "unknown-worker")
    problem(await api.delete("/workers/w"), 404, "unknown-worker")


@pytest.mark.parametrize("worker_id", ["nobody", "a b", "x:y", "%00", "{0}", "x" * 5000])
async def test_an_unknown_worker_is_not_found(api: httpx.AsyncClient, worker_id: str) -> None:
    for request in (
        api.post(f"/workers/{worker_id}/heartbeat"),
        api.post(f"/workers/{worker_id}/drain"),
        api.delete(f"/workers/{worker_id}"),
    ):
        assert len(problem(await request, 404, "unknown-worker")["detail"]) < 300


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"models": []},
        {"models": {}},
        {"models": "digits"},
        {"models": [1]},
        {"models": ["a b"]},
        {"models": {"a\n": {}}},
        {"models": ["m" * 10_000]},
        {"models": [f"m{i}" for i in range(101)]},
        {"models": {"m": {"capacity": 0}}},
        {"models": {"m": {"capacity": -1}}},
        {"models": {"m": {"capacity": 1.5}}},
        {"models": {"m": {"capacity": 10**9}}},
        {"models": {"m": {"capacity": 8, "window": 4}}},
        {"models": {"m": {"timeout_seconds": 0}}},
        {"models": {"m": {"timeout_seconds": 1e9}}},
        {"models": {"m": {"size": 1}}},
        {"models": ["m"], "worker_id": "a b"},
        {"models": ["m"], "worker_id": "x:y"},
        {"models": ["m"], "worker_id": ""},
        {"models": ["m"], "metadata": []},
        {"models": ["m"], "incarnation": "a b"},
        {"models": ["m"], "extra": 1},
        [],
    ],
    ids=lambda body: repr(body)[:60],
)
async def test_a_wrong_registration_is_refused(api: httpx.AsyncClient, body: Any) -> None:
    problem(await api.post("/register", json=body), 422, "invalid-request")
    assert (await api.get("/workers")).json() == {"workers": []}


async def test_a_wrong_value_is_pointed_at(api: httpx.AsyncClient) -> None:
    response = await api.post("/register", json={"models": {"a/b": {"capacity": "8"}}})
    assert problem(response, 422, "invalid-request")["errors"][0]["pointer"] == "#/models/*/capacity"
    response = await api.post("/register", json={"models": {"a/b": {"capacity": 8, "window": 4}}})
    assert problem(response, 422, "invalid-request")["errors"][0]["pointer"] == "#/models/a~1b/window"


async def test_a_registration_has_a_size(api: httpx.AsyncClient) -> None:
    problem(await api.post("/register", json={"models": ["m"], "metadata": {"x": "y" * 100_000}}), 413, "too-large")
    problem(await api.post("/register", content=b"{"), 422, "malformed-json")


async def test_a_worker_is_told_no_password(serve: Serve, settings: Any) -> None:
    host = settings.redis_url.removeprefix("redis://")
    _, api = await serve(redis_url=f"redis://:@{host}", advertise_redis_url="")
    assert (await api.post("/register", json=GPU)).json()["redis_url"] == settings.redis_url
    _, api = await serve(advertise_redis_url="redis://elsewhere:6379/0")
    assert (await api.post("/register", json=GPU)).json()["redis_url"] == "redis://elsewhere:6379/0"


async def test_partitions_are_one_whole(serve: Serve) -> None:
    _, api = await serve(partitions=4)
    models = [f"model-{i}" for i in range(12)]
    told = (await api.post("/register", json={"worker_id": "all", "models": models})).json()
    assert {placement["partition"] for placement in told["models"].values()} == {0, 1, 2, 3}
    batch = await api.post("/inference/batch", json=[{"model": model, "input": 1} for model in models])
    ids = [item["request_id"] for item in batch.json()["results"]]
    assert [int(request_id.split("-")[0]) for request_id in ids] == [told["models"][m]["partition"] for m in models]
    for request_id in ids:
        assert (await api.get(f"/result/{request_id}")).json()["status"] == "queued"
    assert set((await api.get("/models")).json()["models"]) == set(models)
    (worker,) = (await api.get("/workers")).json()["workers"]
    assert set(worker["models"]) == set(models)
    assert (await api.post("/workers/all/heartbeat", json={"incarnation": told["incarnation"]})).status_code == 200
    assert (await api.delete("/workers/all")).status_code == 204
