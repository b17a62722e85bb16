"""`coordinator workers`: who is there, what each serves, and how much it holds."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, ask
from coordinator.cli.output import AsJson, ago, moment, print_json, print_table


def command(
    model: Annotated[str | None, typer.Option(help="Only workers of this model.")] = None,
    state: Annotated[str | None, typer.Option(help="Only workers in this state: live, draining or lost.")] = None,
    coordinator: CoordinatorUrl = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """Show the workers: state, models, outstanding work, last sign of life."""
    answer = ask(coordinator, "GET", "/workers", {"model": model, "state": state})
    if json:
        print_json(answer)
        return
    print_table(
        ("worker", "state", "model", ">outstanding", ">capacity", ">last heartbeat", "registered"),
        (
            (
                worker["worker_id"],
                worker["state"],
                name,
                served["outstanding"],
                served["capacity"],
                ago(worker["heartbeat_age_seconds"]),
                moment(worker["registered_at"]),
            )
            for worker in answer["workers"]
            for name, served in worker["models"].items()
        ),
        empty="No workers.",
    )
