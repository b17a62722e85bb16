"""`coordinator demo`: a whole coordinator, a real model, a worker killed in the middle, and nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coordinator.cli import signals
from coordinator.cli.commands.up import DIGITS, show
from coordinator.cli.demonstration import Account, Demonstration, Summary, summary, to_document
from coordinator.cli.extras import needs
from coordinator.cli.http import probe
from coordinator.cli.output import AsJson, console, own_name, print_fields, print_json
from coordinator.cli.system import Plan, System, running
from coordinator.client import AsyncClient
from coordinator.core import logging
from coordinator.core.settings import Settings

_VICTIM: Final = "worker-2"
_ENOUGH: Final = 0.9
_ENVIRONMENT: Final = {"COORDINATOR_LEASE_SECONDS": "2", "COORDINATOR_HEARTBEAT_SECONDS": "0.5"}
"""A dead worker is noticed after its lease, so a short one shortens the demonstration."""


def command(
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running afterwards, until Ctrl-C.")] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Use a coordinator that is up and serves `digits`; kills nothing there."),
    ] = None,
    json: AsJson = False,
) -> int:
    """Run 1,797 images of handwritten digits through three workers, and kill one of them in the middle."""
    with needs("demo"):
        importlib.import_module("coordinator.api.app")
        images = importlib.import_module("coordinator_examples.digits").images
    pixels, digits = images()

    async def demonstrate(url: str, system: System | None) -> int:
        victim = system.supervisor.surrender(_VICTIM) if system else None
        async with AsyncClient(url) as client:
            with _progress(len(pixels)) as advance:
                account = await Demonstration(client, pixels, advance).run(victim)
        figures = summary(account, digits)
        if json:
            print_json(to_document(figures))
        else:
            _show(account, figures)
        return _verdict(account, figures)

    async def here(hurry: asyncio.Event) -> int:
        with tempfile.TemporaryDirectory(prefix="coordinator-demo-") as folder:
            plan = Plan(data=Path(folder), target=DIGITS, port=0, environment=_ENVIRONMENT)
            _say("Starting Redis, an API, two dispatchers, and three workers that train their model …")
            async with running(plan, hurry) as system:
                code = await demonstrate(system.apis[0], system)
                if keep:
                    _say("")
                    if not json:
                        show(system)
                    _say("Everything keeps running. Ctrl-C stops it.")
                    await asyncio.get_running_loop().create_future()
                elif not json:
                    _how_to_look_around()
            return code

    async def there(url: str) -> int:
        await asyncio.to_thread(probe, url)
        return await demonstrate(url, None)

    logging.configure(Settings(log_level="error"), "demo")
    code = signals.run(here if coordinator is None else lambda _: there(coordinator))
    return 130 if code is None else code


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if a person looks at that; yields what moves it on by one."""
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    to = Console(stderr=True)
    with Progress(*columns, console=to, disable=not to.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _show(account: Account, figures: Summary) -> None:
    killed = None
    if account.killed:
        killed = f"{account.killed}, by SIGKILL, while it ran {account.held} jobs"
    print_fields(
        (
            ("accepted", figures.accepted),
            ("succeeded", figures.succeeded),
            ("failed", figures.failed),
            ("lost", figures.lost),
            ("killed", killed),
            ("retried", figures.retried),
            ("accuracy", f"{figures.accuracy:.1%} on the half that the model has not seen"),
            ("jobs per worker", ", ".join(f"{name} {count}" for name, count in figures.per_worker.items())),
            ("throughput", f"{figures.jobs_per_second:.0f} jobs/s, {figures.seconds:.1f} s in all"),
            ("latency", ", ".join(f"{name} {ms:.0f} ms" for name, ms in figures.latency_ms.items())),
        )
    )


def _verdict(account: Account, figures: Summary) -> int:
    """0 if all is as promised; else 1, and why."""
    wrong = []
    if account.refused:
        wrong.append(f"{len(account.refused)} jobs were not accepted: {account.refused[0]}")
    if figures.lost:
        wrong.append(f"{figures.lost} accepted jobs have no outcome")
    if figures.accuracy <= _ENOUGH:
        wrong.append(f"the accuracy is {figures.accuracy:.1%}, not over {_ENOUGH:.0%}")
    for reason in wrong:
        print(f"coordinator: {reason}", file=sys.stderr)
    return 1 if wrong else 0


def _how_to_look_around() -> None:
    me = own_name()
    console().print("\nTo look around, start the same system and leave it running:", markup=False)
    print_fields(
        (
            (f"  {me} up", "says where the API and Redis listen; Ctrl-C drains it"),
            ("  curl http://127.0.0.1:8000/workers", "who is there, and what each holds"),
            (f"  {me} submit digits @image.json", "a job of your own"),
            (f"  {me} models", "what waits for whom"),
            ("  redis-cli -u URL --scan", "the streams themselves; streams.md explains every key"),
            ("  http://127.0.0.1:8000/docs", "every endpoint, with examples"),
        )
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
