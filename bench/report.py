"""The figures as tables, or as one JSON document."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

import orjson
from figures import Figure
from rich.console import Console
from rich.table import Table

_PROCESSES = ("redis", "dispatcher", "worker", "producer", "api", "bare")
_WIDTH = 110
"""Where the output is no terminal."""


def as_tables(figures: Sequence[Figure], *, rounds: int, seconds: float) -> None:
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=_WIDTH)
    console.print(_values([figure for figure in figures if not figure.process]))
    spent = [figure for figure in figures if figure.process]
    if spent:
        console.print(_costs(spent))
    console.print(f"Medians of {rounds} round{'' if rounds == 1 else 's'}, {seconds:.0f} s in all, {_machine()}.")


def as_json(figures: Sequence[Figure], *, rounds: int, seconds: float) -> None:
    rows = [
        {"name": f.name, "value": f.value, "unit": f.unit, "target": f.target, "ratio": f.ratio, "reached": f.reached}
        for f in figures
        if not f.process
    ]
    spent: dict[str, dict[str, float]] = {}
    for figure in figures:
        if figure.process:
            spent.setdefault(figure.name, {})[figure.process] = figure.value
    document = {
        "figures": rows,
        "cpu_us_per_job": spent,
        "rounds": rounds,
        "seconds": seconds,
        "machine": _machine(),
    }
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def _values(figures: Sequence[Figure]) -> Table:
    table = Table("figure", "unit", "target", title="What it does", title_justify="left")
    table.add_column("value", justify="right")
    table.add_column("of target", justify="right")
    table.add_column("")
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        mark = {True: "[green]reached[/green]", False: "[bold red]not reached[/bold red]", None: ""}[figure.reached]
        table.add_row(figure.name, figure.unit, figure.target, _short(figure.value), ratio, mark)
    return table


def _costs(figures: Sequence[Figure]) -> Table:
    by_name: dict[str, dict[str, float]] = {}
    for figure in figures:
        by_name.setdefault(figure.name, {})[figure.process] = figure.value
    table = Table("CPU us per job", title="What it costs", title_justify="left")
    for process in _PROCESSES:
        table.add_column(process, justify="right")
    for name, spent in by_name.items():
        table.add_row(name, *(_short(spent[process]) if process in spent else "" for process in _PROCESSES))
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {load:.1f}"
