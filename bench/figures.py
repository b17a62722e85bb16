"""What a case measures, and how the figures of several rounds become one table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `target`: what to reach, a number after `>=` or `<=`, or empty."""

    name: str
    value: float
    unit: str
    target: str = ""

    @property
    def reached(self) -> bool | None:
        if not self.target:
            return None
        limit = float(self.target[2:])
        return self.value >= limit if self.target.startswith(">=") else self.value <= limit


Case = Callable[[float], list[Figure]]
"""A case takes a scale (1.0: the usual number of jobs) and returns its figures."""


def medians(rounds: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The median of each figure over the rounds."""
    found: dict[str, list[Figure]] = {}
    for figures in rounds:
        for figure in figures:
            found.setdefault(figure.name, []).append(figure)
    return [
        Figure(name, statistics.median(one.value for one in some), some[0].unit, some[0].target)
        for name, some in found.items()
    ]
