"""The cases, by name, in the order of the table."""

from __future__ import annotations

from typing import Final

from figures import Case

from cases.digits import digits
from cases.durable import append_only_file
from cases.flow import asynchronous, batch, large, plain
from cases.growth import growth
from cases.latency import latency
from cases.memory import memory
from cases.posts import bulk, post, wait
from cases.recovery import recovery
from cases.shards import shards
from cases.stages import stages

CASES: Final[dict[str, Case]] = {
    "batch": batch,
    "plain": plain,
    "async": asynchronous,
    "large": large,
    "aof": append_only_file,
    "stages": stages,
    "post": post,
    "bulk": bulk,
    "wait": wait,
    "latency": latency,
    "growth": growth,
    "memory": memory,
    "recovery": recovery,
    "shards": shards,
    "digits": digits,
}

ONCE: Final = frozenset(("stages", "growth", "memory", "recovery", "shards", "digits"))
"""Measured in the first round only: CPU and bytes vary little, and these take long."""
