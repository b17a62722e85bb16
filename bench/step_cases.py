"""Cases that drive the steps themselves: how cost grows with backlog, workers and models; memory; recovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from figures import Figure
from machine import Machine, machine, until

from coordinator.core import keys, names, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.records import ModelOffer
from coordinator.core.settings import Settings
from coordinator.core.steps import Completion, Submission

_HOUR = 3_600_000
_CALL = 256


async def _submit(p: Partition, model: str, count: int) -> None:
    seconds, _ = await p.redis.time()
    for at in range(0, count, _CALL):
        ids = names.request_ids(0, int(seconds) * 1000, min(_CALL, count - at))
        tail = b'"model":"%b","input":"%b"}' % (model.encode(), b"x" * 80)
        jobs = [Submission(i, model, "normal", tail) for i in ids]
        receipts = await steps.submit(p, jobs, lifetime_ms=_HOUR, retention_ms=_HOUR, max_backlog=10**9)
        assert all(receipt.outcome == "accepted" for receipt in receipts)


async def _register(p: Partition, worker: str, models: Sequence[str], window: int) -> None:
    offers = {model: ModelOffer(capacity=window, window=window) for model in models}
    await steps.register(p, worker, "1", offers, b"{}", lease_ms=_HOUR)


async def _finish(p: Partition, worker: str, model: str) -> int:
    """Read and complete what the worker has."""
    inbox = keys.inbox(p.index, worker, model)
    done = 0
    while True:
        rows: Any = await p.redis.execute_command(
            "XREADGROUP", "GROUP", keys.INBOX_GROUP, worker, "COUNT", _CALL, "STREAMS", inbox, ">"
        )
        if not rows:
            return done
        completions = []
        for entry, flat in rows[0][1]:
            head = flat[-1][1 : flat[-1].index(b',"input":')]
            completions.append(Completion(entry, flat[1], b'"attempts":1,%b,"output":1}' % head))
        await steps.complete(p, worker, model, completions)
        done += len(completions)


async def _cost(p: Partition, models: Sequence[str], workers: Sequence[str], jobs: int) -> float:
    """Redis CPU us per job of submit, assign, read and complete, a call's worth at a time, round the models."""
    server: Any = p.redis

    async def used() -> float:
        info = await server.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    begin = await used()
    done, turn = 0, 0
    while done < jobs:
        model = models[turn % len(models)]
        some = [workers[(turn + i) % len(workers)] for i in range(min(100, len(workers)))]
        turn += 1
        await _submit(p, model, _CALL)
        await steps.assign(p, model, some, batch=_CALL, lifetime_ms=_HOUR)
        for worker in some:
            done += await _finish(p, worker, model)
    return (await used() - begin) / done * 1e6


async def _open(m: Machine) -> Connections:
    return await Connections.open(Settings(redis_url=m.url), client_name="bench")


def growth(scale: float) -> list[Figure]:
    """Redis CPU per job, each as a ratio to its small case."""
    jobs = int(30_000 * scale)

    async def backlog(depth: int) -> float:
        with machine() as m:
            async with await _open(m) as c:
                p = c.partitions[0]
                await _register(p, "w", ["m"], _CALL)
                await _submit(p, "m", depth)
                return await _cost(p, ["m"], ["w"], jobs)

    async def fleet(workers: int, models: int) -> float:
        """Four of them have room, so that the reads cost the same; the others are full, and looked at."""
        with machine() as m:
            async with await _open(m) as c:
                p = c.partitions[0]
                served = [f"m{i}" for i in range(models)]
                for i in range(workers):
                    await _register(p, f"w{i}", served, _CALL)
                return await _cost(p, served, [f"w{i}" for i in range(min(workers, 4))], jobs)

    async def run() -> list[Figure]:
        deep = int(1_000_000 * min(1.0, scale))
        small, large = await backlog(1000), await backlog(deep)
        one, thousand = await fleet(4, 1), await fleet(1000, 1)
        many = await fleet(4, 200)
        return [
            Figure("redis CPU per job, backlog 1k", small, "us"),
            Figure(f"redis CPU per job, backlog {deep // 1000}k / 1k", large / small, "", "<=1.15"),
            Figure("redis CPU per job, 1000 workers / 4", thousand / one, "", "<=1.15"),
            Figure("redis CPU per job, 200 models / 1", many / one, "", "<=1.15"),
        ]

    return asyncio.run(run())


def memory(scale: float) -> list[Figure]:
    """Bytes of Redis per queued job, and what is left when all is done and its results are gone."""
    count = int(100_000 * scale)

    async def run() -> list[Figure]:
        with machine() as m:
            async with await _open(m) as c:
                p = c.partitions[0]
                await _register(p, "w", ["m"], _CALL)
                await _submit(p, "m", _CALL)
                await steps.assign(p, "m", ["w"], batch=_CALL, lifetime_ms=_HOUR)
                await _finish(p, "w", "m")
                m.redis.memory_purge()
                before = m.redis.info("memory")["used_memory"]
                await _submit(p, "m", count)
                queued = m.redis.info("memory")["used_memory"]
                while (await steps.assign(p, "m", ["w"], batch=_CALL, lifetime_ms=_HOUR)).moved:
                    await _finish(p, "w", "m")
                finished = m.redis.info("memory")["used_memory"]
                m.redis.unlink(*m.redis.keys("coord:*:results:*"))
                until(lambda: m.redis.info("memory")["lazyfree_pending_objects"] == 0, "the memory is given back")
                left = m.redis.info("memory")["used_memory"]
                return [
                    Figure("memory per queued job", (queued - before) / count, "bytes", "<=450"),
                    Figure("memory per finished job", (finished - before) / count, "bytes"),
                    Figure("left when all is gone", (left - before) / count, "bytes per job", "<=1"),
                ]

    return asyncio.run(run())


def recovery(scale: float) -> list[Figure]:
    """Inboxes of ten workers that died with 100k jobs, redistributed by one dispatcher."""
    count = int(100_000 * scale)

    async def run() -> list[Figure]:
        with machine() as m:
            async with await _open(m) as c:
                p = c.partitions[0]
                lost = [f"lost{i}" for i in range(10)]
                for worker in lost:
                    await _register(p, worker, ["m"], count // 10)
                await _submit(p, "m", count)
                while (await steps.assign(p, "m", lost, batch=_CALL, lifetime_ms=_HOUR)).moved:
                    pass
                await _register(p, "heir", ["m"], count + 1000)
                m.dispatcher()
                await asyncio.sleep(12)  # it judges nobody before it was in touch for a whole lease
                m.redis.config_set("slowlog-log-slower-than", 500)
                m.redis.slowlog_reset()
                begin = time.perf_counter()
                await p.redis.zadd(keys.workers(0), dict.fromkeys(lost, 1))
                until(
                    lambda: m.redis.xlen(keys.inbox(0, "heir", "m")) == count, "all is with the heir", 120, pause=0.01
                )
                seconds = time.perf_counter() - begin
                return [
                    Figure("recovery of 100k jobs", seconds, "s", "<=3"),
                    Figure("recovery: longest script call", m.slowest_ms(), "ms", "<=5"),
                ]

    return asyncio.run(run())
