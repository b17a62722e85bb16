"""`make bench`: measures everything in one go. README.md here says how to read it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import Final

import report
from cases import CASES, ONCE
from figures import Figure, Scale, medians

_QUICK: Final = Scale(jobs=0.1, backlog=20_000)
_FULL_BACKLOG: Final = 1_000_000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("--only", nargs="+", choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many interleaved rounds (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, one round")
    parser.add_argument("--full", action="store_true", help="growth up to a backlog of a million")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    # An end by SIGTERM, too, is to end what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = _QUICK if arguments.quick else Scale(backlog=_FULL_BACKLOG) if arguments.full else Scale()
    rounds = 1 if arguments.quick else max(1, arguments.rounds)
    chosen = arguments.only or list(CASES)
    found: dict[str, list[list[Figure]]] = {name: [] for name in chosen}
    began = time.monotonic()
    for turn in range(rounds):
        for name in chosen:
            if turn == 0 or name not in ONCE:
                print(f"round {turn + 1} of {rounds}: {name} …", file=sys.stderr)
                found[name].append(CASES[name](scale))
    figures = [figure for name in chosen for figure in medians(found[name])]
    show = report.as_json if arguments.json else report.as_tables
    show(figures, rounds=rounds, seconds=time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
