"""The doctor's look at one server: version, role, persistence, memory, clock, replicas, latency."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import msgspec
from redis.exceptions import ResponseError

from coordinator.core.connection import Partition
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings
from coordinator.core.topology import Cluster, Sentinels

_OLDEST: Final = (6, 2)
_WAITAOF: Final = (7, 2)
_PINGS: Final = 9
_SLOW_MS: Final = 5.0
_CLOCK_SECONDS: Final = 1.0
_MEMORY_PERCENT: Final = 75
_CLIENTS_PERCENT: Final = 80
_LAG_SECONDS: Final = 5


class Check(msgspec.Struct, omit_defaults=True):
    """One thing that was looked at. `verdict` is ok, warning or problem; `advice`: what to do about it."""

    name: str
    verdict: str
    found: str
    advice: str = ""
    server: str = ""
    """Which partitions it concerns, where there are several servers."""


def ok(name: str, found: str) -> Check:
    return Check(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Check:
    return Check(name, "warning", found, advice)


def problem(name: str, found: str, advice: str) -> Check:
    return Check(name, "problem", found, advice)


async def of_server(partition: Partition, settings: Settings) -> list[Check]:
    """All checks of the server that holds this partition. Raises `RedisUnavailable`, `Misconfigured`."""
    info: dict[str, Any] = await partition.patiently(partial(partition.redis.info, "everything"))
    config = await _config(partition)
    return [
        await _latency(partition),
        await _clock(partition),
        _version(info),
        _role(info, partition),
        *_persistence(info, config, settings),
        *_memory(info, settings),
        _clients(info),
        *_replicas(info, config, partition, settings),
    ]


async def _config(partition: Partition) -> dict[str, str]:
    """What CONFIG GET says; empty where it is not allowed, as by most who run Redis for others."""
    names = ("appendfsync", "min-replicas-to-write")
    try:
        return {
            name: value.decode() if isinstance(value, bytes) else str(value)
            for wanted in names
            for name, value in (await partition.patiently(partial(partition.redis.config_get, wanted))).items()
        }
    except (ResponseError, Misconfigured):
        return {}


async def _latency(partition: Partition) -> Check:
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(_PINGS):
        began = loop.time()
        await partition.patiently(partition.redis.ping)
        times.append((loop.time() - began) * 1000)
    median = sorted(times)[_PINGS // 2]
    said = f"{median:.2f} ms for a PING, the slowest of {_PINGS} {max(times):.2f} ms"
    if median > _SLOW_MS:
        return warning("latency", said, "Each step of a job waits for it. Run the processes next to Redis.")
    return ok("latency", said)


async def _clock(partition: Partition) -> Check:
    before = time.time()
    seconds, micros = await partition.patiently(partition.redis.time)
    after = time.time()
    theirs = int(seconds) + int(micros) / 1e6
    # Their time was taken at some moment in between.
    apart = max(0.0, before - theirs, theirs - after)
    if apart > _CLOCK_SECONDS:
        advice = "No lease or deadline depends on this host's clock, but its logs do. Let NTP set both."
        return warning("clock", f"this host and Redis are {apart:.1f} s apart", advice)
    return ok("clock", f"this host and Redis are {apart * 1000:.0f} ms apart")


def _version(info: dict[str, Any]) -> Check:
    said = str(info["redis_version"])
    number = tuple(int(part) for part in said.split(".")[:2])
    name = f"Valkey {info['valkey_version']} (speaks Redis {said})" if "valkey_version" in info else f"Redis {said}"
    if number < _OLDEST:
        return problem("version", name, "Needs Redis 6.2 or later, or Valkey.")
    return ok("version", name)


def _role(info: dict[str, Any], partition: Partition) -> Check:
    if info["role"] != "master":
        advice = "Nothing can be written here. Give the master's address, or use redis+sentinel:// or redis+cluster://."
        return problem("role", "a replica", advice)
    if info.get("cluster_enabled") and not isinstance(partition.source, Cluster):
        return problem("role", "a node of a cluster", "Use redis+cluster:// with the addresses of some nodes.")
    return ok("role", "master")


def _persistence(info: dict[str, Any], config: dict[str, str], settings: Settings) -> Iterator[Check]:
    if not info["aof_enabled"]:
        advice = "What was accepted is lost when Redis restarts. Set appendonly to yes."
        judge = problem if settings.durability == "fsync" else warning
        yield judge("persistence", "no append-only file", advice)
        return
    if info.get("aof_last_write_status", "ok") != "ok":
        yield problem("persistence", "the append-only file can't be written", "Redis refuses writes. Is its disk full?")
    fsync = config.get("appendfsync")
    if fsync == "no":
        advice = "A crash of its machine costs what the kernel had not written, half a minute or so. Set appendfsync to everysec."
        yield warning("persistence", "append-only file, fsync left to the kernel", advice)
    else:
        means = {"everysec": "every second", "always": "always", None: "unknown: CONFIG is not allowed"}
        yield ok("persistence", f"append-only file, fsync {means.get(fsync, fsync)}")
    if settings.durability == "fsync":
        number = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if number < _WAITAOF:
            advice = "COORDINATOR_DURABILITY=fsync needs WAITAOF. Use Redis 7.2 or later, or another durability."
            yield problem("durability", f"fsync, but Redis {info['redis_version']}", advice)
        else:
            yield ok("durability", "fsync can be confirmed")


def _memory(info: dict[str, Any], settings: Settings) -> Iterator[Check]:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        advice = "At its memory limit Redis throws accepted jobs away. Set maxmemory-policy to noeviction."
        yield problem("eviction policy", policy, advice)
    else:
        yield ok("eviction policy", policy)
    if not limit:
        advice = "A full machine ends Redis instead of refusing new jobs. Set maxmemory, to 60 % of the memory or so."
        yield warning("memory", f"{_size(used)} used, no limit", advice)
        return
    percent = used * 100 / limit
    said = f"{_size(used)} of {_size(limit)} used ({percent:.0f} %)"
    if percent > settings.max_memory_percent:
        yield problem("memory", said, "New jobs are refused. Add workers or memory, or shorten the retentions.")
    elif percent > _MEMORY_PERCENT:
        advice = f"Above {settings.max_memory_percent:g} % new jobs are refused. Add workers or memory."
        yield warning("memory", said, advice)
    else:
        yield ok("memory", said)


def _clients(info: dict[str, Any]) -> Check:
    connected, limit = int(info["connected_clients"]), int(info.get("maxclients", 10_000))
    said = f"{connected} of {limit}"
    if connected * 100 > limit * _CLIENTS_PERCENT:
        return warning(
            "connections", said, "More are refused at the limit. Raise maxclients, and the limit of open files."
        )
    return ok("connections", said)


def _replicas(
    info: dict[str, Any], config: dict[str, str], partition: Partition, settings: Settings
) -> Iterator[Check]:
    rows = [row for name, row in info.items() if name.startswith("slave") and isinstance(row, dict)]
    online = [row for row in rows if row.get("state") == "online"]
    behind = max((int(row.get("lag", 0)) for row in online), default=0)
    if settings.durability == "replicated" and not online:
        advice = "With COORDINATOR_DURABILITY=replicated every job is refused. Attach a replica."
        yield problem("replicas", "none", advice)
    elif isinstance(partition.source, Sentinels) and not online:
        yield warning("replicas", "none", "There is nobody whom the sentinels could promote. Attach a replica.")
    elif len(online) < len(rows) or behind > _LAG_SECONDS:
        said = f"{len(online)} of {len(rows)} in step, at most {behind} s behind"
        yield warning("replicas", said, "A failover now would lose what they have not got. See their logs.")
    else:
        yield ok("replicas", f"{len(online)} in step" if online else "none")
    if isinstance(partition.source, Sentinels) and config.get("min-replicas-to-write") == "0":
        advice = (
            "A master that is cut off goes on accepting jobs that are then lost. "
            "With two replicas or more, set min-replicas-to-write to 1."
        )
        yield warning("split brain", "min-replicas-to-write is 0", advice)


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.0f} KB"
