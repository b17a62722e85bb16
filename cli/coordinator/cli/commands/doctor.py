"""`coordinator doctor`: what an operator should know about the Redis that holds everything."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from coordinator.cli.direct import RedisUrl, settings_of, with_its_partitions
from coordinator.cli.output import AsJson, print_json, print_table
from coordinator.core.doctor import Diagnosis, examine
from coordinator.core.errors import InvalidInput, Misconfigured, RedisUnavailable
from coordinator.core.settings import Settings
from coordinator.core.topology import without_password


def command(redis: RedisUrl = None, json: AsJson = False) -> int:
    """Check Redis and how it is set up, and say what to do. Exit code 0: nothing stands in the way; 1: a problem."""
    settings = settings_of(redis)
    diagnosis = asyncio.run(_examine(settings))
    if json:
        print_json({"redis": without_password(settings.redis_url), **msgspec.to_builtins(diagnosis)})
    else:
        print_table(
            ("check", "verdict", "found", "what to do"),
            (
                (
                    f"{check.name} ({check.server})" if check.server else check.name,
                    check.verdict,
                    check.found,
                    check.advice or None,
                )
                for check in diagnosis.checks
            ),
        )
    return 1 if diagnosis.verdict == "problem" else 0


async def _examine(settings: Settings) -> Diagnosis:
    # What is wrong with it is for the examination to say.
    with contextlib.suppress(InvalidInput, Misconfigured, RedisUnavailable):
        settings = await with_its_partitions(settings, "coordinator-doctor")
    return await examine(settings)
