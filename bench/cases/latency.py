"""One job in flight: from submit until its outcome was seen."""

from __future__ import annotations

from figures import Figure, Scale, costs
from machine import per_job

from cases.flow import deployment
from cases.posts import load


def latency(scale: Scale) -> list[Figure]:
    """By Producer, and over HTTP in one request that waits."""
    count = scale(2500)
    with deployment("handlers:asynchronous") as m:
        before = m.cpu()
        own = m.tool("produce.py", "latency", str(count))
        us = {**per_job(before, m.cpu(), count), "producer": own["cpu"] / count * 1e6}
        load(m, "/inference?wait=10", clients=1, count=200)
        http = load(m, "/inference?wait=10", clients=1, count=count)
    return [
        Figure("one in flight, Producer, p50", own["p50"], "ms", "<=0.8"),
        Figure("one in flight, Producer, p99", own["p99"], "ms", "<=1.6"),
        Figure("one in flight, HTTP, p50", http["p50"], "ms", "<=1.2"),
        Figure("one in flight, HTTP, p99", http["p99"], "ms", "<=2.5"),
        *costs("one in flight, Producer", us),
    ]
