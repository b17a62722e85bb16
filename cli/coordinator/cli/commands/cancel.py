"""`coordinator cancel`: end jobs that are not wanted any more, wherever they are."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, connect
from coordinator.cli.output import AsJson, console, print_json


def command(
    request_ids: Annotated[list[str], typer.Argument(metavar="REQUEST_ID...", show_default=False)],
    coordinator: CoordinatorUrl = DEFAULT_URL,
    json: AsJson = False,
) -> None:
    """Cancel jobs that have no outcome yet; whoever runs one is told. Fails at the first that is over already."""
    with connect(coordinator) as client:
        for request_id in request_ids:
            client.cancel(request_id)
            if not json:
                console().print(f"{request_id} was cancelled", markup=False)
    if json:
        print_json({"cancelled": request_ids})
