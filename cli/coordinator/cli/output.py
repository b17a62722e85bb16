"""What the commands print: one JSON document for programs, a table for people."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
JsonLogs = Annotated[bool, typer.Option("--json", help="Log as JSON, also on a terminal.")]

_PIPE_WIDTH: Final = 100_000


def logs_as_json(wanted: bool) -> None:
    """Let this process, and those it starts, log as JSON if `wanted`."""
    if wanted:
        os.environ["COORDINATOR_LOG_FORMAT"] = "json"


def own_name() -> str:
    """How to call this command again from here: by its name, or where it is not on PATH, by its place."""
    if shutil.which("coordinator") is not None:
        return "coordinator"
    started = Path(sys.argv[0])
    return os.path.relpath(started) if started.name == "coordinator" else f"{sys.executable} -m coordinator.cli"


def console() -> Console:
    """Where tables go. Not kept, so that it is always the stdout of now. In a pipe, no line is ever cut or wrapped."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, soft_wrap=True, width=width)


def print_json(document: Any) -> None:
    """One JSON document on stdout; on a terminal with line breaks."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0)
    sys.stdout.write(orjson.dumps(document, option=option).decode())
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """A table; columns whose name begins with `>` hold numbers. Prints `empty` if there are no rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    if table.row_count:
        console().print(table)
    elif empty:
        console().print(empty)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line; what is None is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, _cell(value))
    console().print(table)


def ago(seconds: float | None) -> str | None:
    """A duration as people say it."""
    if seconds is None:
        return None
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def moment(time: datetime | str | None) -> str | None:
    """A time (as text, ISO 8601), in this machine's time zone."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return None if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _cell(value: object) -> str:
    from rich.markup import escape

    return "–" if value is None else escape(str(value))
