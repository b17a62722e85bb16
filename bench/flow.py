"""Cases with a whole deployment: Producer → dispatcher → worker, and what each process pays per job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from figures import Figure
from machine import Machine, machine, redis_benchmark, until

_XADD_SHARE = ">=0.65"


@contextmanager
def deployment(target: str, *, aof: bool = False) -> Iterator[Machine]:
    with machine(aof=aof) as m:
        m.dispatcher()
        m.worker(target)
        _drive(m, 5_000, 150)
        yield m


def _drive(m: Machine, count: int, size: int) -> tuple[float, dict[str, float]]:
    """Run `count` jobs through; jobs/s, and CPU us per job by process."""
    before = m.cpu()
    tool = m.tool("produce.py", str(count), str(size))
    out, _ = tool.communicate(timeout=300)
    told = json.loads(out)
    until(lambda: m.outstanding() == 0, "all jobs are done", 120, pause=0.01)
    seconds = time.time() - told["begin"]
    after = m.cpu()
    cost = {name: (after[name] - before[name]) / count * 1e6 for name in after}
    cost["producer"] = told["cpu"] / count * 1e6
    return count / seconds, cost


def _costs(prefix: str, cost: dict[str, float], redis: str = "", dispatcher: str = "") -> list[Figure]:
    targets = {"redis": redis, "dispatcher": dispatcher}
    return [
        Figure(f"{prefix}: {name} CPU per job", us, "us", targets.get(name, ""))
        for name, us in cost.items()
        if name != "api"
    ]


def end_to_end(scale: float) -> list[Figure]:
    """150-byte jobs, a no-op batch handler, beside redis-benchmark's XADD."""
    count = int(80_000 * scale)
    with deployment("handlers:batch") as m:
        xadd = redis_benchmark(m.port)
        m.redis.config_set("slowlog-log-slower-than", 500)
        m.redis.slowlog_reset()
        rate, cost = _drive(m, count, 150)
        figures = [Figure("end to end, batch handler", rate, "jobs/s", ">=55000")]
        if xadd:
            figures.append(Figure("redis-benchmark XADD", xadd, "requests/s"))
            figures.append(Figure("end to end / XADD", rate / xadd, "", _XADD_SHARE))
        figures += _costs("batch", cost, redis="<=14", dispatcher="<=1")
        figures.append(Figure("longest script call", m.slowest_ms(), "ms", "<=2"))
        before = m.cpu()["dispatcher"]
        time.sleep(5)
        figures.append(Figure("idle dispatcher", (m.cpu()["dispatcher"] - before) / 5 * 100, "% of a core", "<=0.5"))
        return figures


def plain_handler(scale: float) -> list[Figure]:
    with deployment("handlers:plain") as m:
        rate, cost = _drive(m, int(40_000 * scale), 150)
        return [Figure("end to end, plain handler", rate, "jobs/s", ">=25000"), *_costs("plain", cost)]


def async_handler(scale: float) -> list[Figure]:
    with deployment("handlers:asynchronous") as m:
        rate, cost = _drive(m, int(40_000 * scale), 150)
        return [Figure("end to end, async handler", rate, "jobs/s", ">=25000"), *_costs("async", cost)]


def large_jobs(scale: float) -> list[Figure]:
    with deployment("handlers:batch") as m:
        rate, cost = _drive(m, int(30_000 * scale), 8192)
        return [Figure("end to end, 8 KB", rate, "jobs/s", ">=20000"), *_costs("8 KB", cost)]


def append_only_file(scale: float) -> list[Figure]:
    count = int(60_000 * scale)
    with deployment("handlers:batch") as without, deployment("handlers:batch", aof=True) as with_file:
        plain, _ = _drive(without, count, 150)
        rate, cost = _drive(with_file, count, 150)
        return [
            Figure("end to end, AOF everysec", rate, "jobs/s"),
            Figure("AOF everysec / none", rate / plain, "", ">=0.7"),
            *_costs("AOF", {"redis": cost["redis"]}),
        ]


def one_in_flight(scale: float) -> list[Figure]:
    with deployment("handlers:asynchronous") as m:
        out, _ = m.tool("produce.py", str(int(3000 * scale)), "0", "latency").communicate(timeout=120)
        told = json.loads(out)
        body = json.dumps({"model": "noop", "input": "x"})
        command = ("load.py", f"{m.api_url}/inference?wait=10", "POST", body, "1", str(int(3000 * scale)))
        out, _ = m.tool(*command).communicate(timeout=120)
        http = json.loads(out)
        return [
            Figure("one in flight, Producer p50", told["p50"], "ms", "<=0.8"),
            Figure("one in flight, Producer p99", told["p99"], "ms", "<=1.6"),
            Figure("one in flight, HTTP p50", http["p50"], "ms", "<=1.2"),
            Figure("one in flight, HTTP p99", http["p99"], "ms", "<=2.5"),
        ]
