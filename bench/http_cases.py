"""Cases over HTTP: one API process, and a bare FastAPI route beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from figures import Figure
from machine import Machine, answers, free_port, machine, until

_CLIENTS = "64"
_ROOMY = {"COORDINATOR_MAX_BACKLOG": "5000000"}
"""These cases measure acceptance, so nobody takes the jobs; the check of the limit goes on all the same."""


def _load(m: Machine, url: str, body: str, clients: str, count: int, *headers: str) -> Any:
    out, _ = m.tool("load.py", url, "POST", body, clients, str(count), *headers).communicate(timeout=300)
    told = json.loads(out)
    assert set(told["statuses"]) <= {"200", "202"}, told["statuses"]
    return told


def _known(m: Machine) -> None:
    """Make the model known, by a worker that comes and goes."""
    m.worker("handlers:batch")
    m.stop("worker")


def single(scale: float) -> list[Figure]:
    """POST /inference, and a FastAPI route that returns a dict, in turns."""
    os.environ.update(_ROOMY)
    with machine() as m:
        _known(m)
        port = free_port()
        m.start("noop", "noop_api.py", str(port))
        until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "the bare application answers")
        body = json.dumps({"model": "noop", "input": "x" * 80})
        count = int(20_000 * scale)
        noop, ours = f"http://127.0.0.1:{port}/noop", f"{m.api_url}/inference"
        for url in (noop, ours):
            _load(m, url, body, _CLIENTS, 2000)
        before = m.cpu()["api"]
        post = _load(m, ours, body, _CLIENTS, count)
        cost = (m.cpu()["api"] - before) / count * 1e6
        bare = _load(m, noop, body, _CLIENTS, count)
        return [
            Figure("POST /inference", post["per_second"], "requests/s"),
            Figure("no-op FastAPI route", bare["per_second"], "requests/s"),
            Figure("POST /inference / no-op FastAPI", post["per_second"] / bare["per_second"], "", ">=1.3"),
            Figure("POST /inference p50", post["p50"], "ms"),
            Figure("POST /inference p99 / p50", post["p99"] / post["p50"], "", "<=2"),
            Figure("POST /inference: api CPU", cost, "us"),
        ]


def bulk(scale: float) -> list[Figure]:
    """POST /inference/batch of 100."""
    os.environ.update(_ROOMY)
    with machine() as m:
        _known(m)
        jobs = [{"model": "noop", "input": "x" * 80} for _ in range(100)]
        path = Path(m.folder, "batch.json")
        path.write_text(json.dumps(jobs))
        _load(m, f"{m.api_url}/inference/batch", f"@{path}", "8", 50)
        before = m.cpu()
        count = int(2000 * scale)
        told = _load(m, f"{m.api_url}/inference/batch", f"@{path}", "8", count)
        after = m.cpu()
        return [
            Figure("POST /inference/batch of 100", told["per_second"] * 100, "jobs/s", ">=120000"),
            *(
                Figure(f"batch of 100: {name} CPU per job", (after[name] - before[name]) / count * 1e4, "us")
                for name in ("api", "redis")
            ),
        ]


def submit_and_wait(scale: float) -> list[Figure]:
    """POST /inference and its outcome in the same request."""
    with machine() as m:
        m.dispatcher()
        m.worker("handlers:batch")
        body = json.dumps({"model": "noop", "input": "x" * 80})
        url = f"{m.api_url}/inference?wait=10"
        _load(m, url, body, _CLIENTS, 2000)
        told = _load(m, url, body, _CLIENTS, int(15_000 * scale))
        return [
            Figure("POST and wait, 64 clients", told["per_second"], "jobs/s", ">=6000"),
            Figure("POST and wait p50", told["p50"], "ms"),
            Figure("POST and wait p99", told["p99"], "ms"),
        ]
