"""`GET /metrics`: what this process counted, and what Redis says of each model, in Prometheus's text form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

from fastapi import APIRouter
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from coordinator.api import examples
from coordinator.api.engine import Engine
from coordinator.api.openapi import text_answer
from coordinator.api.tally import BUCKETS, Tally
from coordinator.core import views
from coordinator.core.errors import CoordinatorError
from coordinator.core.views import ModelView

_PATIENCE_SECONDS: Final = 1.8
_BOUNDS: Final = (*(str(bound) for bound in BUCKETS), "+Inf")


def router(engine: Engine) -> APIRouter:
    """The routes of the noun."""
    routes = APIRouter(tags=["health"], default_response_class=Response)
    process = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=process)

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        description="Of this process: requests, durations (which include what a client asked to wait), jobs accepted and "
        "refused. Of the whole deployment, so the same from every process: per model workers, capacity, backlog and "
        "oldest wait, and what the last background audit found; they are left out while Redis is away.",
        responses=text_answer("Metrics.", CONTENT_TYPE_LATEST, examples.METRICS),
    )
    async def metrics() -> Response:
        models: Mapping[str, ModelView] | None = None
        findings: Mapping[str, int] = {}
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                models = await views.models(engine.core.connections, engine.settings)
                findings = await views.audit_findings(engine.core.connections)
        except (CoordinatorError, TimeoutError):
            pass
        registry = CollectorRegistry()
        registry.register(_Snapshot([*_of_process(engine.tally, len(engine.waits)), *_of_deployment(models, findings)]))
        return Response(
            generate_latest(registry) + generate_latest(process), headers={"content-type": CONTENT_TYPE_LATEST}
        )

    return routes


class _Snapshot(Collector):
    """Metrics that are known already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_process(tally: Tally, waiting: int) -> Iterable[Metric]:
    requests = HistogramMetricFamily(
        "coordinator_http_request_duration_seconds",
        "How long requests took, waits included.",
        labels=["method", "path", "status"],
    )
    for (method, path, status), durations in tally.requests.items():
        buckets = list(zip(_BOUNDS, accumulate(durations.classes), strict=True))
        requests.add_metric([method, path, str(status)], buckets, durations.seconds)
    yield requests
    yield CounterMetricFamily("coordinator_jobs_accepted", "Jobs accepted.", tally.accepted)
    refused = CounterMetricFamily("coordinator_jobs_refused", "Jobs not accepted, by type of problem.", labels=["type"])
    for kind, count in tally.refused.items():
        refused.add_metric([kind], count)
    yield refused
    yield GaugeMetricFamily("coordinator_waits", "Requests that wait for an outcome right now.", waiting)


def _of_deployment(models: Mapping[str, ModelView] | None, findings: Mapping[str, int]) -> Iterable[Metric]:
    yield GaugeMetricFamily("coordinator_redis_up", "1 if Redis answered just now.", int(models is not None))
    models = models or {}
    workers = GaugeMetricFamily("coordinator_model_workers", "Live workers of a model.", labels=["model"])
    capacity = GaugeMetricFamily("coordinator_model_capacity", "Jobs that they work on at once.", labels=["model"])
    outstanding = GaugeMetricFamily("coordinator_model_outstanding", "Jobs that they hold.", labels=["model"])
    backlog = GaugeMetricFamily("coordinator_model_backlog", "Jobs that wait in a lane.", labels=["model", "lane"])
    oldest = GaugeMetricFamily(
        "coordinator_model_oldest_wait_seconds", "How long the oldest of them has waited.", labels=["model"]
    )
    for name, view in models.items():
        workers.add_metric([name], view.workers)
        capacity.add_metric([name], view.capacity)
        outstanding.add_metric([name], view.outstanding)
        oldest.add_metric([name], view.oldest_wait_seconds or 0.0)
        for lane, count in view.backlog.items():
            backlog.add_metric([name, lane], count)
    yield from (workers, capacity, outstanding, backlog, oldest)
    audit = GaugeMetricFamily(
        "coordinator_audit_findings", "What the last whole background audit found, by kind.", labels=["kind"]
    )
    for kind, count in findings.items():
        audit.add_metric([kind], count)
    yield audit
