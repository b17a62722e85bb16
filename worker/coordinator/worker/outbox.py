"""The outbox: gathers outcomes, and goes on telling Redis until it knows them.

One outcome per call costs Redis fifteen times what one of a hundred does. So the first goes at once, and those that
come while a call is under way share the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from redis.exceptions import ResponseError

from coordinator.core import logging
from coordinator.core.errors import CoordinatorError
from coordinator.worker.deliveries import Delivery

_PER_CALL: Final = 256
_BYTES_PER_CALL: Final = 1 << 20
_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

T = TypeVar("T")


class Outbox(Generic[T]):
    """Sends what is put into it by `send`, a step that is safe to repeat; then says `settled`, with each one's answer."""

    def __init__(
        self,
        send: Callable[[Sequence[T]], Awaitable[Sequence[object]]],
        settled: Callable[[Delivery, object], None],
        size: Callable[[T], int],
        model: str,
    ) -> None:
        self._send = send
        self._settled = settled
        self._size = size
        self._log = logging.get("outbox").bind(model=model)
        self._waiting: deque[tuple[Delivery, T]] = deque()
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
        waiting, size = self._waiting, self._size
        taken: list[tuple[Delivery, T]] = []
        total = 0
        while waiting and len(taken) < _PER_CALL and total < _BYTES_PER_CALL:
            one = waiting.popleft()
            total += size(one[1])
            taken.append(one)
        self._under_way = len(taken)
        return taken

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                taken = self._take()
                answers = await self._patiently([outcome for _, outcome in taken])
                self._under_way = 0
                for (delivery, _), answer in zip(taken, answers, strict=True):
                    self._settled(delivery, answer)
        finally:
            self._sending = None

    async def _patiently(self, outcomes: list[T]) -> Sequence[object]:
        """Send them until there is an answer. Redis may be away for long; whether the jobs are still ours it will say."""
        pause = _PAUSE
        while True:
            try:
                return await self._send(outcomes)
            except CoordinatorError as error:
                if pause == _PAUSE:
                    self._log.warning("outcomes wait, Redis does not take them", jobs=self.pending, error=str(error))
            except ResponseError as error:
                if len(outcomes) > 1:
                    # One of them is the reason; the others must not suffer.
                    return [answer for one in outcomes for answer in await self._patiently([one])]
                self._log.error("an outcome can't be told, the job will be taken away as overdue", error=str(error))
                return [None]
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
