"""`coordinator result`: where a job is, or how it ended."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from msgspec import UNSET
from msgspec.json import encode

from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, connect
from coordinator.cli.output import AsJson, moment, print_fields, print_json
from coordinator.client import JobResult, WaitTimeout
from coordinator.core import records


def command(
    request_id: Annotated[str, typer.Argument(show_default=False)],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the outcome.")] = 0.0,
    coordinator: CoordinatorUrl = DEFAULT_URL,
    json: AsJson = False,
) -> int:
    """Show a job: its status, and its output or error. With --wait, fails unless the job has succeeded by then."""
    with connect(coordinator) as client:
        try:
            result = client.wait(request_id, timeout=wait) if wait else client.result(request_id)
        except WaitTimeout as error:
            result = error.result
    show(result, json=json)
    return 0 if not wait or result.status == records.SUCCEEDED else 1


def document(result: JobResult) -> dict[str, object]:
    """The result as a JSON document, as the API gives it."""
    found: dict[str, object] = orjson.loads(encode(result))
    return found


def output_of(result: JobResult) -> str | None:
    """The output as JSON text, or the error in one line; None if there is neither."""
    if result.error is not None:
        return f"{result.error.type}: {result.error.message}"
    return None if result.output is UNSET else bytes(result.output).decode()


def show(result: JobResult, *, json: bool) -> None:
    """Print one result."""
    if json:
        print_json(document(result))
        return
    print_fields(
        (
            ("request id", result.request_id),
            ("status", result.status),
            ("model", result.model),
            ("attempts", result.attempts),
            ("worker", result.worker_id),
            ("submitted", moment(result.submitted_at)),
            ("finished", moment(result.finished_at)),
            ("error" if result.error else "output", output_of(result)),
            ("dead letter", result.dead_letter),
            ("retried as", result.retried_as),
        )
    )
