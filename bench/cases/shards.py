"""One, two and four partitions on as many Redis servers: on the same two cores, so what tells is the CPU of a job."""

from __future__ import annotations

import itertools
import statistics
from contextlib import ExitStack
from typing import Final

from figures import Figure, Scale, costs
from machine import machine

from cases.flow import Drive, drive
from coordinator.core import keys

_SERVERS: Final = (1, 2, 4)
_SIZE: Final = 150
_TURNS: Final = 2


def shards(scale: Scale) -> list[Figure]:
    count = scale(40_000) // _TURNS
    with ExitStack() as stack:
        systems = []
        for servers in _SERVERS:
            names = [_model_in(p, servers) for p in range(servers)]
            m = stack.enter_context(machine({"BENCH_MODELS": " ".join(names)}, servers=servers))
            m.dispatcher()
            m.worker("handlers:many")
            drive(m, 4_000, _SIZE, *names)
            systems.append((servers, m, names))
        runs: dict[int, list[Drive]] = {servers: [] for servers in _SERVERS}
        for _ in range(_TURNS):
            for servers, m, names in systems:
                runs[servers].append(drive(m, count, _SIZE, *names))
    figures = []
    spent = {}
    for servers, drives in runs.items():
        spent[servers] = {name: statistics.mean(one.us[name] for one in drives) for name in drives[0].us}
        rate = statistics.harmonic_mean([one.rate for one in drives])
        figures.append(Figure(f"end to end, {servers} Redis", rate, "jobs/s"))
    for servers in _SERVERS[1:]:
        ratio = sum(spent[servers].values()) / sum(spent[1].values())
        figures.append(Figure(f"cost per job, {servers} Redis / 1", ratio, ""))
    for servers, us in spent.items():
        figures += costs(f"{servers} Redis", us)
    return figures


def _model_in(partition: int, partitions: int) -> str:
    return next(name for i in itertools.count() if keys.partition_of(name := f"noop-{i}", partitions) == partition)
