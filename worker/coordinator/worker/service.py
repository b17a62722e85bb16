"""A service: all that one model's jobs go through in this process, from the inbox to the outbox."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from coordinator.core import logging, steps
from coordinator.core.connection import Partition
from coordinator.core.membership import Placement
from coordinator.core.steps import Completion, Failure
from coordinator.worker import outcomes
from coordinator.worker.deliveries import Call, Delivery, Reading
from coordinator.worker.gate import Gate
from coordinator.worker.handlers import Handler
from coordinator.worker.inbox import Inbox
from coordinator.worker.invocation import Invocation, Outcome
from coordinator.worker.marks import Marks
from coordinator.worker.outbox import Outbox
from coordinator.worker.outcomes import Outcomes
from coordinator.worker.policy import Policy
from coordinator.worker.runners import Runner, Tasks, Threads

_STRANDED_SECONDS: Final = 0.1
_STALE: Final = (0, "stale")
"""What complete and fail answer then."""


class Service:
    """Serves one model. A delivery is queued until its handler call begins, then running until that call ends."""

    def __init__(
        self,
        handler: Handler,
        placement: Placement,
        partition: Partition,
        worker: str,
        policy: Policy,
        gate: Gate,
        *,
        gone: Callable[[], Awaitable[None]],
        allow: Callable[[float], None],
    ) -> None:
        self.model = handler.model
        self.partition = partition
        self.worker = worker
        self.outstanding: dict[bytes, Delivery] = {}
        """By entry id, from delivery until Redis has confirmed the outcome."""
        self.stale = 0
        """Outcomes refused, or thrown away, because the job was not ours any more."""
        self._handler = handler
        self._policy = policy
        self._gate = gate
        self._allow = allow
        self._timeout = placement.timeout_seconds
        self._log = logging.get("service").bind(model=handler.model)
        self._loop = asyncio.get_running_loop()
        self._outcomes = Outcomes(policy, handler.model)
        runner = Tasks if handler.is_async else Threads
        invocation = Invocation(handler, self._outcomes)
        self.runner: Runner = runner(invocation, self._finished, self._flush, handler.model)
        self._completions: Outbox[Completion] = Outbox(self._complete, self._settled, _size, handler.model)
        self._failures: Outbox[Failure] = Outbox(self._fail, self._settled, lambda _: 1000, handler.model)
        self.inbox = Inbox(
            partition,
            worker,
            handler.model,
            Reading(handler.model, placement.timeout_seconds),
            slots=self._free_slots,
            deliver=self._deliver,
            known=self.outstanding.keys(),
            gone=gone,
        )
        self.marks = Marks(partition, worker, handler.model, self.outstanding, self.lose)
        self._queued = 0
        """Deliveries that are in no call yet, those at the gate too."""
        self._running = 0
        """Deliveries in live calls."""
        self._live: set[Call] = set()
        self._ended: asyncio.Future[None] | None = None
        self._pending: deque[Delivery] = deque()
        self._due = False
        self._timer: asyncio.TimerHandle | None = None
        self._rescue: asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None
        gate.starters.append(self)

    @property
    def in_work(self) -> int:
        """Deliveries that are held, running or not."""
        return self._queued + self._running

    @property
    def busy(self) -> int:
        return self._queued + self._running + self._completions.pending + self._failures.pending

    @property
    def capacity(self) -> int:
        return self._handler.capacity

    # From the inbox to the handler.

    @property
    def _free(self) -> int:
        """How many more jobs could begin right now: the calls that may still be made, less what is queued for them."""
        return (self._handler.capacity - len(self._live)) * self._handler.batch - self._queued

    async def _free_slots(self) -> int:
        while (free := self._free) <= 0:
            self._reader = self._loop.create_future()
            await self._reader
        return free

    def _deliver(self, deliveries: list[Delivery]) -> None:
        self._queued += len(deliveries)
        outstanding = self.outstanding
        for delivery in deliveries:
            outstanding[delivery.entry] = delivery
            if delivery.timeout > self._timeout:
                self._allow(delivery.timeout)
        self._gate.admit(self, deliveries)

    def hold(self) -> None:
        """Something waits at the gate: Redis is to know."""
        self.marks.hold()

    def start_held(self, deliveries: list[Delivery]) -> None:
        """Start deliveries that waited at the gate, once Redis knows that they do no more."""
        self.marks.release(deliveries, self.start)

    def start(self, deliveries: list[Delivery]) -> None:
        """Queue deliveries for the handler; those that need no handler any more get their outcome at once."""
        self._pending.extend(deliveries)
        self._make_calls()

    def _make_calls(self) -> None:
        """Make calls of what is queued: full ones at once, others when nothing more can come or the wait is over."""
        pending, handler = self._pending, self._handler
        while pending and len(self._live) < handler.capacity:
            if len(pending) < handler.batch and not self._may_go():
                if self._timer is None:
                    self._timer = self._loop.call_later(handler.batch_wait, self._wait_is_over)
                return
            deliveries = self._take()
            if deliveries:
                call = Call(deliveries)
                self._live.add(call)
                self._queued -= len(deliveries)
                self._running += len(deliveries)
                self.runner.run(call)
                self._due = False
        if not pending:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._rescue is None:
            self._rescue = self._loop.call_later(_STRANDED_SECONDS, self._hand_back_stranded)

    def _take(self) -> list[Delivery]:
        """The deliveries of one call; those that need no handler any more get their outcome at once."""
        pending, most = self._pending, self._handler.batch
        taken: list[Delivery] = []
        while pending and len(taken) < most:
            delivery = pending.popleft()
            if delivery.answered:
                self._drop(delivery, None)
            elif delivery.deadline_at is not None and delivery.deadline_at <= self.partition.time.now_ms():
                self._drop(delivery, outcomes.expired(delivery))
            elif delivery.input_bytes and not delivery.input:
                self._drop(delivery, self._outcomes.lost_input(delivery))
            else:
                taken.append(delivery)
        return taken

    def _hand_back_stranded(self) -> None:
        """Deliveries that no call has room for: a read asked for them before the calls that run now had begun.

        They must not wait for a long call to end while another worker may be idle.
        """
        self._rescue = None
        if len(self._live) >= self._handler.capacity:
            for delivery in self._pending:
                self._drop(delivery, outcomes.released(delivery))
            self._pending.clear()

    def _may_go(self) -> bool:
        """Whether a call that is not full should wait no longer."""
        return self._due or not self._handler.batch_wait or self._free <= 0 or self._gate.closed

    def _wait_is_over(self) -> None:
        self._timer = None
        self._due = True
        self._make_calls()

    # From the handler to the outbox.

    def _finished(self, call: Call, done: list[Outcome]) -> None:
        for delivery, outcome in done:
            if not delivery.answered:
                delivery.answered = True
                self._put(delivery, outcome)
        self._end(call)

    def _end(self, call: Call) -> None:
        self._live.discard(call)
        self._running -= len(call.deliveries)
        if self._ended is not None and not self._live and not self._ended.done():
            self._ended.set_result(None)

    def _put(self, delivery: Delivery, outcome: Completion | Failure) -> None:
        if isinstance(outcome, Completion):
            self._completions.put(delivery, outcome)
        else:
            self._failures.put(delivery, outcome)

    def _drop(self, delivery: Delivery, outcome: Failure | None) -> None:
        """Be done with a delivery that no handler will see."""
        self._queued -= 1
        if outcome is None or delivery.answered:
            self.outstanding.pop(delivery.entry, None)
        else:
            delivery.answered = True
            self._failures.put(delivery, outcome)
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """After some calls have ended: use the slots, tell Redis. In this order, for the handler waits for its next jobs."""
        if self._pending:
            self._make_calls()
        if self._reader is not None and self._free > 0:
            if not self._reader.done():
                self._reader.set_result(None)
            self._reader = None
        self._completions.flush()
        self._failures.flush()
        if self._gate.closed:
            self._gate.pump()

    async def _complete(self, deliveries: Sequence[Delivery], done: Sequence[Completion]) -> Sequence[object]:
        together = deliveries[-1].serial - deliveries[0].serial == len(deliveries) - 1
        return await steps.complete(self.partition, self.worker, self.model, done, together=together)

    async def _fail(self, _: Sequence[Delivery], failures: Sequence[Failure]) -> Sequence[object]:
        return await steps.fail(
            self.partition,
            self.worker,
            self.model,
            failures,
            max_attempts=self._policy.max_attempts,
            lifetime_ms=self._policy.lifetime_ms,
            dead_retention_ms=self._policy.dead_retention_ms,
        )

    def _settled(self, deliveries: Sequence[Delivery], answers: Sequence[object]) -> None:
        outstanding = self.outstanding
        for delivery, answer in zip(deliveries, answers, strict=True):
            outstanding.pop(delivery.entry, None)
            if answer in _STALE:
                self._count_stale(delivery, "an outcome was refused as stale: the job was not ours any more")
        if self._gate.closed:
            self._loop.call_soon(self._gate.pump)

    def _count_stale(self, delivery: Delivery, message: str) -> None:
        self.stale += 1
        self._log.warning(message, request_id=delivery.request_id.decode(), stale=self.stale)

    # Running jobs that are not to go on.

    def time_out(self) -> None:
        """Give up on jobs whose time limit is over."""
        now = time.monotonic()
        for call in tuple(self._live):
            if not call.started:
                continue
            for delivery in call.deliveries:
                if not delivery.answered and now - call.started > delivery.timeout:
                    self._log.warning(
                        "handler out of time", request_id=delivery.request_id.decode(), timeout_seconds=delivery.timeout
                    )
                    delivery.answered = True
                    self._failures.put(delivery, self._outcomes.timeout(delivery))
            self._give_up(call, now)

    def lose(self, entries: Sequence[bytes]) -> None:
        """Jobs that were taken away from us: cancelled, overdue, or our lease was over."""
        for entry in entries:
            delivery = self.outstanding.get(entry)
            if delivery is not None and not delivery.answered:
                delivery.answered = True
                del self.outstanding[entry]
                self._count_stale(delivery, "a job in work was taken away or cancelled")
        now = time.monotonic()
        for call in tuple(self._live):
            self._give_up(call, now)

    def _give_up(self, call: Call, now: float) -> None:
        """End a call that nobody waits for. A thread can't be stopped: its slot is only free when its time is over."""
        if not call.started or not all(delivery.answered for delivery in call.deliveries):
            return
        longest = max(delivery.timeout for delivery in call.deliveries)
        if not self._handler.is_async and now - call.started <= longest:
            return
        if self.runner.abandon(call):
            self._end(call)
            self._loop.call_soon(self._flush)

    # The end.

    async def hand_back(self) -> None:
        """Give back what no handler has seen, without an attempt used. The inbox must not be read any more."""
        unread = await self.inbox.unread()
        unstarted = [*self._gate.clear(self), *self._pending]
        self._pending.clear()
        self._queued += len(unread)
        for delivery in (*unstarted, *unread):
            self._drop(delivery, outcomes.released(delivery))
        if unstarted or unread:
            self._log.info("hands back jobs that were not started", jobs=len(unstarted) + len(unread))

    async def finished(self) -> None:
        """Wait until no call is running and Redis knows all outcomes."""
        await self.marks.settled()
        while self._live:
            self._ended = self._loop.create_future()
            await self._ended
        await self._completions.drained()
        await self._failures.drained()

    def close(self) -> None:
        """Leave everything as it is."""
        for call in tuple(self._live):
            for delivery in call.deliveries:
                delivery.answered = True
            self.runner.abandon(call)
        self.runner.close()
        self.marks.close()
        self._completions.close()
        self._failures.close()
        for timer in (self._timer, self._rescue):
            if timer is not None:
                timer.cancel()


def _size(completion: Completion) -> int:
    return len(completion.tail) + len(completion.output)
