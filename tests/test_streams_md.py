"""streams.md is true: each of its `redis-cli` lines is run against a live system, and every key and script is told."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness.field import Field
from harness.redis import RedisServer
from harness.redis_cli import redis_cli, run

from coordinator.core import keys, names, scripts
from coordinator.core.connection import Connections

TEXT = (Path(__file__).parent.parent / "streams.md").read_text()


class Recipe(NamedTuple):
    """A line to type, the job that it is about, and what it prints."""

    job: str
    line: str
    expected: list[str]


def recipes() -> Iterator[Recipe]:
    for block in re.finditer(r"^```console (\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        for command in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
            line, *expected = command.rstrip("\n").split("\n")
            yield Recipe(block[1], line, [] if expected == [""] else expected)


RECIPES = list(recipes())


def pattern(expected: list[str]) -> str:
    """The expected output as a regular expression: what stands in angle brackets is anything, but not nothing."""
    parts = re.split(r"<[a-z]+>", "\n".join(expected))
    return ".+".join(re.escape(part) for part in parts)


async def jobs_in_every_state(field: Field) -> dict[str, str]:
    """Two workers, one of them lost, and the id of a job in each state that the page tells of."""
    digits = {"digits": "2:2"}
    ids = {}
    await field.register("gpu-1", models=digits)
    done = await field.given("gpu-1", "digits")
    await field.complete(done.done(7), worker="gpu-1", model="digits")
    ids["succeeded"] = done.request_id
    dead = await field.given("gpu-1", "digits")
    await field.fail_one(dead, "final", worker="gpu-1", model="digits")
    ids["dead"] = dead.request_id
    again = await field.given("gpu-1", "digits")
    await field.fail_one(again, "retry", delay_ms=600_000, worker="gpu-1", model="digits")
    ids["retrying"] = again.request_id
    ids["running"] = (await field.given("gpu-1", "digits")).request_id
    await field.register("gpu-2", models=digits)
    await field.end_lease("gpu-2")
    await field.reclaim("gpu-2")
    await field.put("digits")
    assert (await field.assign("gpu-1", "gpu-2", model="digits")).moved == 1
    ids["queued"] = await field.put("digits")
    await field.put("digits")
    await field.put("digits", "high")
    assert (await field.assign("gpu-1", "gpu-2", model="digits")).state == "starved"
    await field.woken()
    return ids


async def test_every_redis_cli_line_prints_what_the_page_says(
    connections: Connections, redis_server: RedisServer
) -> None:
    assert len(RECIPES) > 20
    field = Field(connections.partitions[0])
    ids = await jobs_in_every_state(field)
    program = redis_cli()
    for job, line, expected in RECIPES:
        record = await field.record(ids[job])
        variables = {
            "ID": ids[job],
            "BUCKET": str(names.parse_request_id(ids[job], 1).bucket),
            "ENTRY": record.at.rpartition(" ")[2],
        }
        for name, value in variables.items():
            expected = [text.replace(f"${name}", value) for text in expected]
        printed = await asyncio.to_thread(run, line, redis_server.port, program, variables)
        assert re.fullmatch(pattern(expected), printed.rstrip("\n")), f"$ {line}\n{printed}"
    await field.census()


def test_every_key_is_told_in_the_order_of_the_module() -> None:
    told = re.findall(r"^\| `(coord:[^`]+)` \|", TEXT, re.MULTILINE)
    words = {"p": "p", "model": "<model>", "lane": "<lane>", "worker": "<worker>", "worker_id": "<worker>"}
    words |= {"bucket": "<bucket>", "request_id": "<id>", "side": "<in\\|out>", "process": "<process>"}
    lines = {
        name: inspect.getsourcelines(function)[1] for name, function in inspect.getmembers(keys, inspect.isfunction)
    }
    order = [keys.META]
    for name in sorted(lines, key=lambda name: lines[name]):
        if name not in ("base", "partition_of"):
            function = getattr(keys, name)
            order.append(function(*(words[parameter] for parameter in inspect.signature(function).parameters)))
    assert told == order


def test_every_script_is_told_and_no_other() -> None:
    section = TEXT[TEXT.index("## Scripts") : TEXT.index("## 3 a.m.")]
    told = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
    assert sorted(told) == sorted(scripts.names())


def test_every_status_is_told() -> None:
    for status in ("queued", "assigned", "running", "retrying", "succeeded", "failed", "cancelled", "expired"):
        assert re.search(rf"^\| `{status}` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", [recipe.line for recipe in RECIPES])
def test_no_line_changes_anything(line: str) -> None:
    verb = line.split()[1]
    reading: tuple[str, ...] = ("CONFIG GET", "EXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "SMEMBERS", "TIME")
    reading += ("XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZRANGE", "ZSCORE")
    assert verb in reading or " ".join(line.split()[1:3]) in reading
