"""`make bench`: measures everything in one go. See README.md here for how to read it."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

import orjson
from digits import digits
from figures import Case, Figure, medians
from flow import append_only_file, async_handler, end_to_end, large_jobs, one_in_flight, plain_handler
from http_cases import bulk, single, submit_and_wait
from rich.console import Console
from rich.table import Table
from step_cases import growth, memory, recovery

CASES: Final[dict[str, Case]] = {
    "end-to-end": end_to_end,
    "plain": plain_handler,
    "async": async_handler,
    "large": large_jobs,
    "aof": append_only_file,
    "post": single,
    "bulk": bulk,
    "wait": submit_and_wait,
    "latency": one_in_flight,
    "growth": growth,
    "memory": memory,
    "recovery": recovery,
    "digits": digits,
}
_ONCE: Final = frozenset(("growth", "memory", "recovery", "digits"))
"""CPU and bytes hardly vary, and these take long."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many interleaved rounds (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, one round")
    arguments = parser.parse_args()
    chosen = arguments.only or list(CASES)
    scale, rounds = (0.1, 1) if arguments.quick else (1.0, arguments.rounds)
    found: dict[str, list[list[Figure]]] = {name: [] for name in chosen}
    began = time.monotonic()
    for turn in range(rounds):
        for name in chosen:
            if turn and name in _ONCE:
                continue
            print(f"round {turn + 1} of {rounds}: {name} …", file=sys.stderr)
            found[name].append(CASES[name](scale))
    figures = [figure for name in chosen for figure in medians(found[name])]
    seconds = time.monotonic() - began
    if arguments.json:
        rows = [{**figure.__dict__, "reached": figure.reached} for figure in figures]
        document = {
            "figures": rows,
            "rounds": rounds,
            "scale": scale,
            "seconds": seconds,
            "python": platform.python_version(),
        }
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return 0
    table = Table("figure", "value", "unit", "target", "")
    for figure in figures:
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
        mark = {True: "reached", False: "[bold]not reached[/bold]", None: ""}[figure.reached]
        table.add_row(figure.name, value, figure.unit, figure.target, mark)
    Console().print(table)
    Console().print(f"Medians of {rounds} rounds, {seconds:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
