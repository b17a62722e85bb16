"""`coordinator up`: a whole coordinator on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import signals
from coordinator.cli.extras import needs
from coordinator.cli.output import AsJson, console, own_name, print_fields, print_json
from coordinator.cli.system import Plan, System, running
from coordinator.core import logging
from coordinator.core.settings import Settings
from coordinator.core.topology import without_password

DIGITS = "coordinator_examples.digits:worker"


def command(
    apis: Annotated[int, typer.Option(min=1, max=64, help="API processes.")] = 1,
    dispatchers: Annotated[int, typer.Option(min=1, max=64, help="Dispatcher processes.")] = 2,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Worker processes.")] = 3,
    worker: Annotated[str, typer.Option(metavar="MODULE:WORKER", help="What the workers run.")] = DIGITS,
    host: Annotated[str, typer.Option(help="Where the API listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the first API; others follow. 0: free ones.")] = 8000,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="A Redis that is there.", show_default="an embedded one")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the embedded Redis keeps its data, and where logs go.")] = Path(
        ".coordinator"
    ),
    json: AsJson = False,
) -> int:
    """Start Redis, APIs, dispatchers and workers, say where they listen, and keep them going. Ctrl-C drains them."""
    with needs("api"):
        importlib.import_module("coordinator.api.app")
    logging.configure(Settings(), "up")
    plan = Plan(
        data=data,
        target=worker,
        apis=apis,
        dispatchers=dispatchers,
        workers=workers,
        host=host,
        port=port,
        redis_url=redis,
    )

    async def main(hurry: asyncio.Event) -> None:
        async with running(plan, hurry) as system:
            if json:
                print_json(where(system))
            else:
                show(system)
                console().print("\nCtrl-C stops it: workers finish what they run first. Ctrl-C again does not wait.")
            await asyncio.get_running_loop().create_future()

    signals.run(main)
    return 0


def where(system: System) -> dict[str, object]:
    """Where each part listens, as a document."""
    return {
        "apis": list(system.apis),
        "docs": f"{system.apis[0]}/docs",
        "redis": without_password(system.redis_url),
        "workers": list(system.workers),
        "logs": str(system.logs),
        "processes": system.processes,
    }


def show(system: System) -> None:
    """Say where each part listens, and how to look at it."""
    url = system.apis[0]
    redis = without_password(system.redis_url)
    print_fields(
        (
            ("API", ", ".join(system.apis)),
            ("docs page", f"{url}/docs"),
            ("Redis", redis),
            ("workers", ", ".join(system.workers) or "none"),
            ("logs", f"{system.logs}/"),
            ("look around", f"curl {url}/workers"),
            ("", f"{own_name()} workers --coordinator {url}"),
            ("", f"redis-cli -u {redis} --scan --pattern 'coord:*'"),
        )
    )
