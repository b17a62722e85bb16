"""`coordinator dead`: the jobs that failed for good; look at them, try them again, throw them away."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, ask, segment
from coordinator.cli.output import AsJson, console, moment, print_json, print_table

app = typer.Typer(help="Show, retry or remove dead letters.", no_args_is_help=True)
Ids = Annotated[list[str], typer.Argument(metavar="REQUEST_ID...", show_default=False)]


@app.command("list")
def list_dead(
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="The newest so many.")] = 100,
    coordinator: CoordinatorUrl = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """Show dead letters, newest first."""
    answer = ask(coordinator, "GET", "/dead", {"model": model, "count": str(count)})
    if json:
        print_json(answer)
        return
    print_table(
        ("request id", "model", "reason", ">attempts", "last worker", "died", "error"),
        (
            (
                letter["request_id"],
                letter["model"],
                letter["reason"],
                letter["attempts"],
                letter.get("worker_id"),
                moment(letter["died_at"]),
                (letter.get("error") or {}).get("message"),
            )
            for letter in answer["dead"]
        ),
        empty="No dead letters.",
    )


@app.command()
def retry(request_ids: Ids, coordinator: CoordinatorUrl = DEFAULT_URL, json: AsJson = False) -> None:
    """Submit dead letters again, each as a new job."""
    answers = []
    for request_id in request_ids:
        answer = ask(coordinator, "POST", f"/dead/{segment(request_id)}/retry")
        answers.append(answer)
        if not json:
            console().print(f"{request_id} was submitted again as {answer['request_id']}", markup=False)
    if json:
        print_json({"retried": answers})


@app.command()
def remove(request_ids: Ids, coordinator: CoordinatorUrl = DEFAULT_URL, json: AsJson = False) -> None:
    """Throw dead letters away."""
    for request_id in request_ids:
        ask(coordinator, "DELETE", f"/dead/{segment(request_id)}")
        if not json:
            console().print(f"{request_id} was removed", markup=False)
    if json:
        print_json({"removed": request_ids})
