"""Invocation: one call of a handler, from its inputs' JSON to the outcomes of its jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from coordinator.core.steps import Completion, Failure
from coordinator.worker.context import current
from coordinator.worker.deliveries import Call, Delivery
from coordinator.worker.handlers import Handler
from coordinator.worker.outcomes import Outcomes

Outcome = tuple[Delivery, Completion | Failure]


class Invocation:
    """Calls one handler. Never raises what the handler raises."""

    def __init__(self, handler: Handler, outcomes: Outcomes) -> None:
        self._function = handler.function
        self._batched = handler.batch > 1
        self._decode = handler.decoder()
        self._outcomes = outcomes

    def run(self, call: Call) -> list[Outcome]:
        """Call a sync handler, in this thread."""
        current.set(call)
        call.started = time.monotonic()
        ready, value, done = self._prepare(call)
        if not ready:
            return done
        try:
            result = self._function(value)
        except BaseException as error:
            result = error
        return done + self._finish(ready, result)

    async def run_async(self, call: Call) -> list[Outcome]:
        """Call an async handler, in this task."""
        current.set(call)
        call.started = time.monotonic()
        ready, value, done = self._prepare(call)
        if not ready:
            return done
        try:
            result = await self._function(value)
        except asyncio.CancelledError as error:
            if call.abandoned:
                return done
            result = error
        except BaseException as error:
            result = error
        return done + self._finish(ready, result)

    def _prepare(self, call: Call) -> tuple[list[Delivery], Any, list[Outcome]]:
        """Decode the inputs: the deliveries to run, the handler's argument, and the outcomes of those that don't fit."""
        ready: list[Delivery] = []
        values: list[Any] = []
        done: list[Outcome] = []
        for delivery in call.deliveries:
            if delivery.answered:
                continue
            try:
                values.append(self._decode(delivery.input))
            except Exception as error:
                done.append((delivery, self._outcomes.bad_input(delivery, error)))
            else:
                ready.append(delivery)
        call.running = ready
        return ready, values if self._batched or not values else values[0], done

    def _finish(self, ready: list[Delivery], result: Any) -> list[Outcome]:
        try:
            return self._outcomes_of(ready, result)
        except Exception as error:
            # Whatever a result may do when it is looked at: each job gets an outcome.
            return [(delivery, self._outcomes.of_error(delivery, error)) for delivery in ready]

    def _outcomes_of(self, ready: list[Delivery], result: Any) -> list[Outcome]:
        outcomes = self._outcomes
        if not self._batched:
            return [(ready[0], outcomes.of_result(ready[0], result))]
        if isinstance(result, BaseException):
            return [(delivery, outcomes.of_error(delivery, result)) for delivery in ready]
        if callable(convert := getattr(result, "tolist", None)):
            result = convert()
        if not isinstance(result, list | tuple):
            message = f"The batch handler must return a list with one result per job, not {type(result).__qualname__}."
            return [(delivery, outcomes.bad_results(delivery, message)) for delivery in ready]
        if len(result) != len(ready):
            message = f"The batch handler returned {len(result)} results for {len(ready)} jobs."
            return [(delivery, outcomes.bad_results(delivery, message)) for delivery in ready]
        of_result = outcomes.of_result
        return [(delivery, of_result(delivery, one)) for delivery, one in zip(ready, result, strict=True)]
