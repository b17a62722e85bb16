"""Over HTTP, by one API process: acceptance beside a bare FastAPI route, batches, and submit-and-wait."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Final

from figures import Figure, Scale, costs
from machine import Machine, answers, free_port, machine, per_job, until

_CLIENTS: Final = 64
_TURNS: Final = 4
_BATCH: Final = 100
_BATCH_CLIENTS: Final = 8
_ROOMY: Final = {"COORDINATOR_MAX_BACKLOG": "5000000"}
"""Where only acceptance is measured nobody takes the jobs; the check of the limit goes on all the same."""
_JOB: Final = {"model": "noop", "input": "x" * 94}
"""150 bytes once it is a job."""


def load(m: Machine, path: str, *, clients: int, count: int, body: str = "", port: int = 0) -> Any:
    """POST `count` times; requests/s and latencies."""
    url = f"http://127.0.0.1:{port or m.api_port}{path}"
    told = m.tool("load.py", url, body or json.dumps(_JOB), str(clients), str(count))
    if told["answered"] != count or not set(told["statuses"]) <= {"200", "202"}:
        raise SystemExit(f"bench: {url}: {told['answered']} of {count} answered, {told['statuses']}")
    return told


def _make_known(m: Machine) -> None:
    """Make the model known, by a worker that comes and goes."""
    m.worker("handlers:batch")
    m.stop("worker")


def post(scale: Scale) -> list[Figure]:
    """POST /inference and a FastAPI route that returns a dict, in turns."""
    count = scale(20_000)
    with machine(_ROOMY) as m:
        _make_known(m)
        port = free_port()
        m.start("bare", "noop_api.py", str(port))
        until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "the bare application answers")
        load(m, "/noop", clients=_CLIENTS, count=1000, port=port)
        load(m, "/inference", clients=_CLIENTS, count=2000)
        ours, bare, spent = [], [], []
        for _ in range(_TURNS):
            before = m.cpu()
            ours.append(load(m, "/inference", clients=_CLIENTS, count=count // _TURNS))
            between = m.cpu()
            bare.append(load(m, "/noop", clients=_CLIENTS, count=count // _TURNS, port=port))
            us = per_job(before, between, count // _TURNS)
            us["bare"] = per_job(between, m.cpu(), count // _TURNS)["bare"]
            us["producer"] = ours[-1]["cpu"] / (count // _TURNS) * 1e6
            spent.append(us)
    rate = statistics.harmonic_mean([told["per_second"] for told in ours])
    bare_rate = statistics.harmonic_mean([told["per_second"] for told in bare])
    p50, p99 = (statistics.median(told[name] for told in ours) for name in ("p50", "p99"))
    us = {process: statistics.mean(one[process] for one in spent) for process in spent[0]}
    return [
        Figure("POST /inference, 64 clients", rate, "requests/s"),
        Figure("a FastAPI route that does nothing", bare_rate, "requests/s"),
        Figure("POST /inference / FastAPI", rate / bare_rate, "", ">=1.3"),
        Figure("the same by CPU of the server", us["bare"] / us["api"], ""),
        Figure("POST /inference, p50", p50, "ms"),
        Figure("POST /inference, p99", p99, "ms"),
        Figure("POST /inference, p99 / p50", p99 / p50, "", "<=2"),
        *costs("POST /inference", us),
    ]


def bulk(scale: Scale) -> list[Figure]:
    """POST /inference/batch of 100 jobs."""
    count = scale(1500)
    with machine(_ROOMY) as m:
        _make_known(m)
        path = Path(m.folder, "batch.json")
        path.write_text(json.dumps([_JOB] * _BATCH))
        body = f"@{path}"
        load(m, "/inference/batch", clients=_BATCH_CLIENTS, count=50, body=body)
        before = m.cpu()
        told = load(m, "/inference/batch", clients=_BATCH_CLIENTS, count=count, body=body)
        us = per_job(before, m.cpu(), count * _BATCH)
    return [
        Figure("POST /inference/batch of 100", told["per_second"] * _BATCH, "jobs/s", ">=120000"),
        *costs("POST /inference/batch", {**us, "producer": told["cpu"] / count / _BATCH * 1e6}),
    ]


def wait(scale: Scale) -> list[Figure]:
    """POST /inference that waits for the outcome."""
    count = scale(12_000)
    with machine() as m:
        m.dispatcher()
        m.worker("handlers:batch")
        load(m, "/inference?wait=10", clients=_CLIENTS, count=2000)
        before = m.cpu()
        told = load(m, "/inference?wait=10", clients=_CLIENTS, count=count)
        us = per_job(before, m.cpu(), count)
    return [
        Figure("POST and wait, 64 clients", told["per_second"], "jobs/s", ">=6000"),
        Figure("POST and wait, p50", told["p50"], "ms"),
        Figure("POST and wait, p99", told["p99"], "ms"),
        *costs("POST and wait", {**us, "producer": told["cpu"] / count * 1e6}),
    ]
