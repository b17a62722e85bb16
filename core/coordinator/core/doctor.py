"""The doctor: what an operator should know about the Redis that holds everything, and what to do about it.

It changes nothing, not even a Redis that no coordinator has used yet, and has something to say about one that is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from typing import Final

import msgspec

from coordinator.core import checkup, keys, scripts
from coordinator.core.checkup import Check, ok, problem, warning
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import CoordinatorError
from coordinator.core.settings import Settings
from coordinator.core.topology import Cluster, SlotRange

_SLOTS: Final = 16384


class Diagnosis(msgspec.Struct):
    """All checks, and the worst of their verdicts."""

    verdict: str
    checks: list[Check]


async def examine(settings: Settings) -> Diagnosis:
    """Make all checks. Raises `Misconfigured` if the URL can't be read; all else is a verdict."""
    checks = [_hiredis()]
    connections = Connections.unchecked(settings, client_name="coordinator-doctor")
    try:
        try:
            checks += await _deployment(connections, settings)
        except CoordinatorError as error:
            checks.append(problem("reachable", str(error), "Check the URL, the server, its password and the network."))
    finally:
        await connections.close()
    verdicts = {check.verdict for check in checks}
    return Diagnosis(next(v for v in ("problem", "warning", "ok") if v in verdicts), checks)


async def _deployment(connections: Connections, settings: Settings) -> list[Check]:
    checks = [_schema(await connections.meta(), settings)]
    if isinstance(cluster := connections.partitions[0].source, Cluster):
        first = connections.partitions[0]
        checks += _cluster(await first.patiently(cluster.ranges), settings)
    servers: dict[str, list[Partition]] = {}
    for partition in connections.partitions:
        info = await partition.patiently(partial(partition.redis.info, "server"))
        servers.setdefault(str(info["run_id"]), []).append(partition)
    for held in servers.values():
        found = await asyncio.gather(checkup.of_server(held[0], settings), _scripts(held[0]))
        names = f"partition{'s' if len(held) > 1 else ''} {', '.join(str(p.index) for p in held)}"
        for check in (*found[0], found[1]):
            check.server = names if len(servers) > 1 else ""
            checks.append(check)
    checks.append(await _last_audit(connections))
    return checks


def _hiredis() -> Check:
    return ok("hiredis", version("hiredis"))


def _schema(meta: dict[str, str], settings: Settings) -> Check:
    if not meta:
        return warning(
            "schema", "no coordinator has used this Redis yet", "Is it the right one? The first process claims it."
        )
    said = f"version {meta.get('schema')}, {meta.get('partitions')} partitions"
    if meta.get("schema") != str(keys.SCHEMA_VERSION):
        advice = f"This program speaks version {keys.SCHEMA_VERSION}. Use the matching one, or another Redis."
        return problem("schema", said, advice)
    if meta.get("partitions") != str(settings.partitions):
        advice = f"Set COORDINATOR_PARTITIONS to {meta.get('partitions')}; it is {settings.partitions}."
        return problem("schema", said, advice)
    return ok("schema", said)


def _cluster(ranges: list[SlotRange], settings: Settings) -> Iterator[Check]:
    covered = sum(last - first + 1 for first, last, _ in ranges)
    if covered < _SLOTS:
        yield problem(
            "cluster slots", f"{covered} of {_SLOTS} are served", "Give the rest to a node (CLUSTER ADDSLOTSRANGE)."
        )
    else:
        yield ok("cluster slots", "all are served")
    masters = {nodes[0] for _, _, nodes in ranges}
    bare = {nodes[0] for _, _, nodes in ranges if len(nodes) == 1}
    if bare:
        advice = "A node that fails takes its partitions with it until it is back. Give each master a replica."
        yield warning("cluster replicas", f"{len(bare)} of {len(masters)} masters have none", advice)
    else:
        yield ok("cluster replicas", f"all {len(masters)} masters have one")
    if settings.partitions < len(masters):
        said = f"{settings.partitions} on {len(masters)} masters"
        yield warning(
            "cluster partitions", said, "Some masters hold nothing. A new deployment should have several per master."
        )
    else:
        yield ok("cluster partitions", f"{settings.partitions} on {len(masters)} masters")


async def _scripts(partition: Partition) -> Check:
    shas = [scripts.script(name).sha for name in scripts.names()]
    loaded = await partition.patiently(partial(partition.redis.script_exists, *shas))
    # Never wrong: a script is sent when it is first used.
    return ok("scripts", f"{sum(map(bool, loaded))} of {len(shas)} are loaded; the others are when they are first used")


async def _last_audit(connections: Connections) -> Check:
    found, missing = 0, 0
    for partition in connections.partitions:
        stored = await partition.patiently(partial(partition.redis.hgetall, keys.audit(partition.index)))
        missing += b"finished_at" not in stored
        found += sum(int(count) for name, count in stored.items() if name != b"finished_at")
    if found:
        return problem("last audit", f"{found} findings", "See them with coordinator audit; --repair mends them.")
    if missing:
        said = f"none yet of {missing} of {len(connections.partitions)} partitions"
        return warning(
            "last audit", said, "Dispatchers audit in the background; is one running? Or run coordinator audit."
        )
    return ok("last audit", "nothing found")
