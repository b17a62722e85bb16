"""The gate: a job on which a worker has died before (a suspect) runs only when nothing else in this process does.

If the worker dies again, there is one culprit, and nobody else is blamed: Redis is told what waits here and is not
started. Entries that come after a suspect wait, whatever their model, and start in the order of their ids.
"""

from __future__ import annotations

import heapq
from typing import Protocol

from coordinator.worker.deliveries import Delivery


class Starter(Protocol):
    """What lets deliveries start: a model's service."""

    def start(self, deliveries: list[Delivery]) -> None: ...

    def hold(self) -> None:
        """Tell Redis which deliveries are `held`."""
        ...

    def start_held(self, deliveries: list[Delivery]) -> None:
        """Tell Redis that they wait no more, then start them."""
        ...

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
        started = self.pump()
        for delivery in deliveries:
            delivery.held = delivery not in started
        if deliveries[-1].held:
            starter.hold()

    def pump(self) -> set[Delivery]:
        """Start those whose turn it is; returns them."""
        started: set[Delivery] = set()
        fresh: dict[Starter, list[Delivery]] = {}
        held: dict[Starter, list[Delivery]] = {}
        while self._waiting:
            suspect = self._waiting[0][3].crashed
            if (suspect or self._alone) and sum(starter.busy for starter in self.starters) > len(self._waiting):
                break
            self._alone = suspect
            _, _, starter, delivery = heapq.heappop(self._waiting)
            started.add(delivery)
            (held if delivery.held else fresh).setdefault(starter, []).append(delivery)
            delivery.held = False
        if self._alone and not any(starter.busy for starter in self.starters):
            self._alone = False
        for starter, deliveries in fresh.items():
            starter.start(deliveries)
        for starter, deliveries in held.items():
            starter.start_held(deliveries)
        return started

    def clear(self, starter: Starter) -> list[Delivery]:
        """Take out what still waits for this starter; it will not start."""
        mine = [row[3] for row in self._waiting if row[2] is starter]
        self._waiting = [row for row in self._waiting if row[2] is not starter]
        heapq.heapify(self._waiting)
        for delivery in mine:
            delivery.held = False
        return mine
