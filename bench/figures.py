"""What a case measures, and how the figures of several rounds become one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value. `target`: what to reach, a number after `>=` or `<=`, or empty.

    `process`: for CPU us per job, the process that used it; `name` is then what was run.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    process: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a share of the target."""
        return self.value / float(self.target[2:]) if self.target else None

    @property
    def reached(self) -> bool | None:
        ratio = self.ratio
        if ratio is None:
            return None
        return ratio >= 1 if self.target.startswith(">=") else ratio <= 1


@dataclass(frozen=True)
class Scale:
    """How much is measured: `jobs` is a factor on the number of jobs, `backlog` the deep backlog of the growth case."""

    jobs: float = 1.0
    backlog: int = 200_000

    def __call__(self, count: int) -> int:
        return max(200, int(count * self.jobs))


Case = Callable[[Scale], list[Figure]]


def costs(name: str, us: Mapping[str, float]) -> list[Figure]:
    """CPU us per job, by process."""
    return [Figure(name, value, "us/job", process=process) for process, value in us.items()]


def medians(rounds: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The median of each figure over the rounds, in the order of the first round."""
    found: dict[tuple[str, str], list[Figure]] = {}
    for figures in rounds:
        for figure in figures:
            found.setdefault((figure.name, figure.process), []).append(figure)
    return [
        Figure(name, statistics.median(one.value for one in some), some[0].unit, some[0].target, process)
        for (name, process), some in found.items()
    ]
