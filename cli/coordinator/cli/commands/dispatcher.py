"""`coordinator dispatcher`: one dispatcher process."""

from __future__ import annotations

from coordinator.cli.output import JsonLogs, logs_as_json


def command(json: JsonLogs = False) -> int:
    """Run a dispatcher process, until SIGTERM or Ctrl-C. Any number may run. Settings come from COORDINATOR_* variables."""
    from coordinator.dispatcher.main import run_dispatcher

    logs_as_json(json)
    return run_dispatcher()
