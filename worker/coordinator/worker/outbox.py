"""The outbox: gathers outcomes, and goes on telling Redis until it knows them.

One outcome per call costs Redis fifteen times what one of a hundred does. So the first goes at once, and those that
come while a call is under way share the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from coordinator.core import logging
from coordinator.core.errors import CoordinatorError
from coordinator.worker.deliveries import Delivery

_PER_CALL: Final = 256
_BYTES_PER_CALL: Final = 1 << 20
_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


class Outbox(Generic[T]):
    """Sends what is put into it by `send`, a step that is safe to repeat; then says `settled`, with each one's answer.

    Both get deliveries in the order in which they were read.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Delivery], Sequence[T]], Awaitable[Sequence[object]]],
        settled: Callable[[Sequence[Delivery], Sequence[object]], None],
        size: Callable[[T], int],
        model: str,
    ) -> None:
        self._send = send
        self._settled = settled
        self._size = size
        self._log = logging.get("outbox").bind(model=model)
        self._waiting: list[tuple[Delivery, T]] = []
        self._under_way = 0
        self._sending: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many outcomes Redis has not confirmed."""
        return len(self._waiting) + self._under_way

    def put(self, delivery: Delivery, outcome: T) -> None:
        """Add an outcome. It goes with the next `flush`."""
        self._waiting.append((delivery, outcome))

    def flush(self) -> None:
        """Send what is there. If a call is under way, it goes when that is back."""
        if self._waiting and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send_all(), name="outbox")

    async def drained(self) -> None:
        """Wait until Redis has confirmed everything."""
        self.flush()
        if self._sending is not None:
            await asyncio.wait((self._sending,))

    def close(self) -> None:
        """Stop sending. What is not confirmed is lost to us, and the coordinator takes it back."""
        self._waiting.clear()
        if self._sending is not None:
            self._sending.cancel()

    def _take(self) -> list[tuple[Delivery, T]]:
        taken = self._waiting[:_PER_CALL]
        total = 0
        for count, (_, outcome) in enumerate(taken, 1):
            total += self._size(outcome)
            if total >= _BYTES_PER_CALL:
                del taken[count:]
                break
        del self._waiting[: len(taken)]
        self._under_way = len(taken)
        taken.sort(key=_serial)
        return taken

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                taken = self._take()
                deliveries = [delivery for delivery, _ in taken]
                answers = await self._patiently(deliveries, [outcome for _, outcome in taken])
                self._under_way = 0
                self._settled(deliveries, answers)
        finally:
            self._under_way = 0
            self._sending = None

    async def _patiently(self, deliveries: list[Delivery], outcomes: list[T]) -> Sequence[object]:
        """Send them until there is an answer. Redis may be away for long; whether the jobs are still ours it will say."""
        pause = _PAUSE
        while True:
            try:
                return await self._send(deliveries, outcomes)
            except CoordinatorError as error:
                if pause == _PAUSE:
                    self._log.warning("outcomes wait, Redis does not take them", jobs=self.pending, error=str(error))
            except Exception as error:
                if len(outcomes) > 1:
                    # One of them is the reason; the others must not suffer.
                    pairs = zip(deliveries, outcomes, strict=True)
                    return [answer for delivery, one in pairs for answer in await self._patiently([delivery], [one])]
                self._log.error("an outcome can't be told, the job will be taken away as overdue", error=str(error))
                return [None]
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _serial(pair: tuple[Delivery, object]) -> int:
    return pair[0].serial
