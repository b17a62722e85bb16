"""The append-only file: the same deployment with and without one, in turns."""

from __future__ import annotations

import statistics
from typing import Final

from figures import Figure, Scale, costs

from cases.flow import deployment, drive

_SIZE: Final = 150
_TURNS: Final = 2


def append_only_file(scale: Scale) -> list[Figure]:
    count = scale(60_000) // _TURNS
    with deployment("handlers:batch") as without, deployment("handlers:batch", aof=True) as kept:
        turns = [(drive(without, count, _SIZE), drive(kept, count, _SIZE)) for _ in range(_TURNS)]
    plain = statistics.harmonic_mean([one.rate for one, _ in turns])
    written = statistics.harmonic_mean([one.rate for _, one in turns])
    us = {process: statistics.mean(one.us[process] for _, one in turns) for process in turns[0][1].us}
    return [
        Figure("end to end, AOF everysec", written, "jobs/s"),
        Figure("AOF everysec / without", written / plain, "", ">=0.7"),
        *costs("150 B, AOF everysec", us),
    ]
