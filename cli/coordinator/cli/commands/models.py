"""`coordinator models`: who serves each model, and what waits for it."""

from __future__ import annotations

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, ask
from coordinator.cli.output import AsJson, ago, print_json, print_table


def command(coordinator: CoordinatorUrl = DEFAULT_URL, json: AsJson = False) -> None:
    """Show the models: live workers, room, backlog per lane, and how long its oldest job has waited."""
    answer = ask(coordinator, "GET", "/models")
    if json:
        print_json(answer)
        return
    lanes = ("retry", "high", "normal", "low")
    print_table(
        ("model", ">workers", ">capacity", ">outstanding", *(f">{lane}" for lane in lanes), ">oldest waits"),
        (
            (
                name,
                model["workers"],
                model["capacity"],
                model["outstanding"],
                *(model["backlog"].get(lane, 0) for lane in lanes),
                ago(model["oldest_wait_seconds"]),
            )
            for name, model in answer["models"].items()
        ),
        empty="No worker has registered a model yet.",
    )
