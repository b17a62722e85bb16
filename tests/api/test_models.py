"""Models: who serves each, and what waits; in JSON for people, and as metrics for machines."""

from __future__ import annotations

import httpx
from harness.api import Serve
from harness.field import Field
from prometheus_client.parser import text_string_to_metric_families

from coordinator.core import keys


async def test_a_model_shows_who_serves_it_and_what_waits(api: httpx.AsyncClient, field: Field) -> None:
    await field.register("w2", m="4:4")
    await field.put_many(5)
    await field.assign("w")
    await field.put_many(2)
    await field.put(lane="high")
    model = (await api.get("/models")).json()["models"]["m"]
    assert (model["workers"], model["capacity"], model["outstanding"]) == (2, 12, 5)
    assert model["backlog"] == {"retry": 0, "high": 1, "normal": 2, "low": 0}
    assert model["oldest_wait_seconds"] >= 0


async def test_a_model_without_workers_is_still_known(api: httpx.AsyncClient, field: Field) -> None:
    await api.delete("/workers/w")
    model = (await api.get("/models")).json()["models"]["m"]
    assert (model["workers"], model["capacity"], model["oldest_wait_seconds"]) == (0, 0, None)


async def test_no_models_yet(api: httpx.AsyncClient) -> None:
    assert (await api.get("/models")).json() == {"models": {}}


async def test_metrics_count_what_this_process_did(api: httpx.AsyncClient, field: Field) -> None:
    await api.post("/inference", json={"model": "m", "input": 1})
    await api.post("/inference", json={"model": "other", "input": 1})
    await api.post("/inference/batch", json=[{"model": "m", "input": 1}, {"model": "m"}, {"model": "m", "input": 2}])
    await api.get("/result/x")
    await api.get("/dead/0-5984846-jj6fdshcdbsuyxm6")
    for path in ("/a", "/b"):
        await api.request("BREW", path)
    samples = await _samples(api)
    assert samples["coordinator_jobs_accepted_total", ()] == 3
    assert samples["coordinator_jobs_refused_total", ("unknown-model",)] == 1
    assert samples["coordinator_jobs_refused_total", ("invalid-request",)] == 1
    count = "coordinator_http_request_duration_seconds_count"
    assert samples[count, ("POST", "/inference", "202")] == 1
    assert samples[count, ("POST", "/inference", "404")] == 1
    assert samples[count, ("GET", "/result/{request_id}", "404")] == 1
    assert samples[count, ("GET", "/dead/{request_id}", "404")] == 1
    # No client can make labels of its own.
    assert samples[count, ("other", "other", "404")] == 2
    assert samples["coordinator_redis_up", ()] == 1
    assert samples["coordinator_model_backlog", ("normal", "m")] == 3
    assert samples["coordinator_model_workers", ("m",)] == 1


async def test_metrics_say_what_the_background_audit_found(api: httpx.AsyncClient, field: Field) -> None:
    await field.redis.hset(keys.audit(0), mapping={"orphan_inbox": 2, "record_elsewhere": 0, "finished_at": 1})
    samples = await _samples(api)
    assert samples["coordinator_audit_findings", ("orphan_inbox",)] == 2
    assert samples["coordinator_audit_findings", ("record_elsewhere",)] == 0
    assert ("coordinator_audit_findings", ("finished_at",)) not in samples


async def test_metrics_are_there_without_redis(serve: Serve) -> None:
    _, api = await serve(redis_url="redis://127.0.0.1:1/0", redis_patience=0.1)
    samples = await _samples(api)
    assert samples["coordinator_redis_up", ()] == 0


async def _samples(api: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """Value by name and label values (in the order of the labels' names), without the histograms' buckets."""
    response = await api.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if "le" not in sample.labels
    }
