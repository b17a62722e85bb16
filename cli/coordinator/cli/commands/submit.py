"""`coordinator submit`: hand in one job, or one per line of stdin, and wait for the outcome if asked to."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from coordinator.cli.commands.result import document, output_of, show
from coordinator.cli.http import DEFAULT_URL, CoordinatorUrl, connect, probe
from coordinator.cli.output import AsJson, console, print_json, print_table
from coordinator.client import Client, CoordinatorError, JobResult, Options, WaitTimeout
from coordinator.core import records

_PATIENCE: Final = 30.0
"""Seconds for which a refused bulk submission is tried again: it goes as fast as the workers do."""


def command(
    model: Annotated[str, typer.Argument(show_default=False)],
    input: Annotated[  # noqa: A002 - the API's word for it
        str,
        typer.Argument(
            help="JSON; @FILE reads it from a file; - reads many from stdin, one per line.", show_default=False
        ),
    ],
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one attempt may take.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="How often to try.")] = None,
    delay: Annotated[float | None, typer.Option(help="Seconds to hold it back.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds in which it must have started.")] = None,
    durability: Annotated[
        str | None, typer.Option(help="What must have confirmed it: memory, replicated or fsync.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key finds the same job; for one job only.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the outcome.")] = 0.0,
    coordinator: CoordinatorUrl = DEFAULT_URL,
    json: AsJson = False,
) -> int:
    """Submit jobs. Prints request ids; with --wait the results, and fails unless all have succeeded."""
    options: Options = {}
    if priority is not None:
        options["priority"] = priority
    if timeout is not None:
        options["timeout_seconds"] = timeout
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    if delay is not None:
        options["delay_seconds"] = delay
    if deadline is not None:
        options["deadline_seconds"] = deadline
    if durability is not None:
        options["durability"] = durability
    if input != "-":
        value = _value(_read(input), "INPUT")
        with connect(coordinator) as client:
            return _one(client, model, value, key, options, wait, json=json)
    if key is not None:
        raise typer.BadParameter("a key stands for one job; stdin has many.", param_hint="--key")
    lines = sys.stdin.buffer.read().split(b"\n")
    values = [_value(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    probe(coordinator)
    with connect(coordinator, patience=_PATIENCE) as client:
        return _many(client, model, values, options, wait, json=json)


def _one(
    client: Client, model: str, value: msgspec.Raw, key: str | None, options: Options, wait: float, *, json: bool
) -> int:
    request_id = client.submit(model, value, idempotency_key=key, **options)
    if wait:
        result = _wait(client, request_id, wait)
        show(result, json=json)
        return 0 if result.status == records.SUCCEEDED else 1
    if json:
        print_json({"request_id": request_id, "model": model})
    else:
        console().print(request_id, markup=False)
    return 0


def _many(client: Client, model: str, values: list[msgspec.Raw], options: Options, wait: float, *, json: bool) -> int:
    answers = client.submit_many(model, values, **options)
    until = time.monotonic() + wait
    outcomes = [
        _wait(client, answer, max(0.0, until - time.monotonic())) if wait and isinstance(answer, str) else answer
        for answer in answers
    ]
    if json:
        print_json({"results": [_document(outcome) for outcome in outcomes]})
    elif wait:
        print_table(
            ("request id", "status", ">attempts", "worker", "output"),
            (
                (outcome.request_id, outcome.status, outcome.attempts, outcome.worker_id, output_of(outcome))
                if isinstance(outcome, JobResult)
                else (None, "not accepted", None, None, outcome)
                for outcome in outcomes
            ),
        )
    else:
        for line, outcome in enumerate(outcomes, 1):
            if isinstance(outcome, CoordinatorError):
                print(f"coordinator: input {line}: {outcome}", file=sys.stderr)
            else:
                print(outcome)
    good = (
        outcome.status == records.SUCCEEDED if isinstance(outcome, JobResult) else isinstance(outcome, str)
        for outcome in outcomes
    )
    return 0 if all(good) else 1


def _wait(client: Client, request_id: str, seconds: float) -> JobResult:
    try:
        return client.wait(request_id, timeout=seconds)
    except WaitTimeout as error:
        return error.result


def _document(outcome: JobResult | CoordinatorError | str) -> dict[str, object]:
    if isinstance(outcome, JobResult):
        return document(outcome)
    if isinstance(outcome, CoordinatorError):
        return {"error": str(outcome)}
    return {"request_id": outcome}


def _read(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode(errors="surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"can't read {text[1:]}: {error.strerror}.", param_hint="INPUT") from None


def _value(data: bytes, where: str) -> msgspec.Raw:
    """The input, as it was written."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"{error}. A text needs quotes of its own: '\"…\"'.", param_hint=where) from None
    return msgspec.Raw(data)
