"""`coordinator api`: one API process."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.extras import needs
from coordinator.cli.output import JsonLogs, logs_as_json
from coordinator.core import logging
from coordinator.core.settings import Settings


def command(
    host: Annotated[str | None, typer.Option(help="Where to listen.", show_default="COORDINATOR_API_HOST")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0: any free port.", show_default="COORDINATOR_API_PORT")
    ] = None,
    json: JsonLogs = False,
) -> None:
    """Run an API process, until SIGTERM or Ctrl-C. Settings come from COORDINATOR_* variables."""
    with needs("api"):
        from coordinator.api.server import run
    logs_as_json(json)
    settings = Settings()
    given = {"api_host": host, "api_port": port}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    logging.configure(settings, "api")
    run(settings)
