"""What one process counts: requests, their durations, and the jobs that it accepted and refused.

Plain numbers, so that counting costs the hot path next to nothing; `routes/metrics.py` turns them into Prometheus's form.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes of durations, in seconds; above the last is one more."""


class Durations:
    """How long the requests of one kind took, by class and in all."""

    __slots__ = ("classes", "seconds")

    def __init__(self) -> None:
        self.classes = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class Tally:
    """The counts of one process since its start."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], Durations] = {}
        """By method, path (as a template) and status."""
        self.accepted = 0
        """Jobs, those found again under their idempotency key included."""
        self.refused: dict[str, int] = {}
        """Jobs not accepted, by type of problem."""

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        kind = (method, path, status)
        durations = self.requests.get(kind)
        if durations is None:
            durations = self.requests[kind] = Durations()
        durations.classes[bisect_left(BUCKETS, seconds)] += 1
        durations.seconds += seconds

    def refuse(self, kind: str) -> None:
        """Count one job that was not accepted."""
        self.refused[kind] = self.refused.get(kind, 0) + 1
