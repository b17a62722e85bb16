"""`coordinator worker`: one worker process."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl
from coordinator.cli.output import JsonLogs, logs_as_json


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:WORKER", help="Where the Worker is, such as my_module:worker.", show_default=False
        ),
    ],
    coordinator: CoordinatorUrl = DEFAULT_URL,
    worker_id: Annotated[
        str | None, typer.Option(help="Its id; one that is alive is taken over.", show_default="a new, unique one")
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds to finish running jobs at the end.", show_default="COORDINATOR_DRAIN_SECONDS"
        ),
    ] = None,
    json: JsonLogs = False,
) -> int:
    """Run a worker process, until SIGTERM or Ctrl-C; what it can't finish then, it hands back."""
    from coordinator.worker.main import run_worker

    logs_as_json(json)
    return run_worker(target, coordinator, worker_id, grace)
