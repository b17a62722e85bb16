"""The gate: a job on which a worker has died before (a suspect) runs only when nothing else in this process does.

If the worker dies again, there is one culprit, and nobody else is blamed: the reclaim step judges by exactly this rule.
Entries that come after a suspect wait, whatever their model, and start in the order of their ids.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from coordinator.worker.deliveries import Delivery


class Starter(Protocol):
    """What lets deliveries start: a model's service."""

    def start(self, deliveries: list[Delivery]) -> None: ...

    @property
    def busy(self) -> int:
        """Deliveries held, waiting or not, and outcomes that Redis has not confirmed."""
        ...


class Gate:
    """Lets deliveries of all models of this process start."""

    def __init__(self) -> None:
        self.starters: list[Starter] = []
        self._waiting: list[tuple[tuple[int, int], int, Starter, Delivery]] = []
        self._alone = False
        self._count = 0

    @property
    def closed(self) -> bool:
        """Something waits; whoever becomes less busy must call `pump`."""
        return self._alone or bool(self._waiting)

    @property
    def waiting(self) -> list[Delivery]:
        return [row[3] for row in self._waiting]

    def admit(self, starter: Starter, deliveries: list[Delivery]) -> None:
        """Start them, or keep them until it is their turn. `starter.busy` counts them from now on."""
        if not self.closed:
            first = next((i for i, delivery in enumerate(deliveries) if delivery.crashed), None)
            if first is None:
                starter.start(deliveries)
                return
            if first:
                starter.start(deliveries[:first])
                deliveries = deliveries[first:]
        for delivery in deliveries:
            self._count += 1
            heapq.heappush(self._waiting, (delivery.order, self._count, starter, delivery))
        self.pump()

    def pump(self) -> None:
        """Start those whose turn it is."""
        while self._waiting:
            suspect = self._waiting[0][3].crashed
            if (suspect or self._alone) and sum(starter.busy for starter in self.starters) > len(self._waiting):
                return
            self._alone = suspect
            _, _, starter, delivery = heapq.heappop(self._waiting)
            starter.start([delivery])
        if self._alone and not any(starter.busy for starter in self.starters):
            self._alone = False

    def clear(self, starter: Starter) -> list[Delivery]:
        """Take out what still waits for this starter; it will not start."""
        mine = [row[3] for row in self._waiting if row[2] is starter]
        self._waiting = [row for row in self._waiting if row[2] is not starter]
        heapq.heapify(self._waiting)
        return mine
