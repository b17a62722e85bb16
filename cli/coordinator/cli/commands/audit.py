"""`coordinator audit`: prove that every job is in exactly one place; name what is not so, and mend it if asked to."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from coordinator.cli.direct import RedisUrl, settings_of, with_its_partitions
from coordinator.cli.output import AsJson, console, print_json, print_table
from coordinator.core.audit import Report, audit
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings

_SHOWN = 100


def command(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    redis: RedisUrl = None,
    json: AsJson = False,
) -> int:
    """Walk everything in Redis, also while the system runs. Exit code 0: nothing found; 1: something was."""
    report = asyncio.run(_audit(settings_of(redis), repair))
    if json:
        findings = [
            {**msgspec.to_builtins(finding), "problem": finding.problem, "repair": finding.repair}
            for finding in report.findings
        ]
        print_json({"findings": findings, "looked": report.looked, "seconds": report.seconds})
    else:
        _show(report, repair)
    return 1 if report.findings else 0


async def _audit(settings: Settings, repair: bool) -> Report:
    settings = await with_its_partitions(settings, "coordinator-audit")
    async with await Connections.open(settings, client_name="coordinator-audit") as connections:
        return await audit(connections, settings, repair=repair)


def _show(report: Report, repair: bool) -> None:
    print_table(
        ("kind", "partition", "request id", "place", "what is wrong", "mended" if repair else "--repair would do"),
        (
            (
                finding.kind,
                finding.partition,
                finding.request_id or None,
                finding.place,
                finding.problem,
                finding.repair,
            )
            for finding in report.findings[:_SHOWN]
        ),
    )
    if len(report.findings) > _SHOWN:
        console().print(f"… and {len(report.findings) - _SHOWN} more; --json shows all.")
    looked = ", ".join(f"{count} {part.replace('_', ' ')}" for part, count in report.looked.items())
    found = f"{len(report.findings)} findings" if report.findings else "nothing found"
    console().print(f"Looked at {looked} in {report.seconds:.1f} s: {found}.")
