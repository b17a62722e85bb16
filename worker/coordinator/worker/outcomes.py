"""What becomes of a job: what its handler returned or raised, as the step that tells Redis wants it."""

from __future__ import annotations

import random
import traceback
from typing import Any, Final

import msgspec

from coordinator.core import logging
from coordinator.core.records import Problem
from coordinator.core.steps import Completion, Failure
from coordinator.worker.deliveries import Delivery
from coordinator.worker.policy import Policy

_MESSAGE_CHARACTERS: Final = 1000
_DETAIL_CHARACTERS: Final = 4000
_EXPONENT: Final = 30
_MAX_OUTPUT: Final = 32 << 20


class Retry(Exception):
    """Raised by a handler: try this job again. Uses up an attempt.

    `after`: seconds until then; not given: as long as after any other failure.
    """

    def __init__(self, message: str = "The handler asked for another try.", *, after: float | None = None) -> None:
        if after is not None and not 0 <= after < float("inf"):
            raise ValueError(f"Retry(after=…) takes seconds from 0 on, not {after}.")
        super().__init__(message)
        self.after = after


class Fail(Exception):
    """Raised by a handler: this job can't succeed, don't try it again. It becomes a dead letter.

    `type`: a stable word that programs may branch on. `detail`: anything that helps a person.
    """

    def __init__(self, message: str, *, type: str = "failed", detail: str | None = None) -> None:  # noqa: A002 - RFC 9457's word for it
        super().__init__(message)
        self.type = type
        self.detail = detail


class Outcomes:
    """Makes completions and failures of one model's deliveries."""

    def __init__(self, policy: Policy, model: str) -> None:
        self._policy = policy
        self._model = model
        self._inline = policy.inline_bytes
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode
        self._log = logging.get("handler").bind(model=model)

    def of_result(self, delivery: Delivery, result: Any) -> Completion | Failure:
        """The outcome of a job whose handler returned. An exception in place of a result counts as raised."""
        if isinstance(result, BaseException):
            return self.of_error(delivery, result)
        try:
            output = self._encode(result)
            if type(result) is msgspec.Raw:
                msgspec.json.decode(output)
            if b"\n" in output or b"\r" in output:
                # Only what is raw has line ends. Whoever waits is told a line per job.
                output = msgspec.json.format(output, indent=-1)
        except Exception as error:
            return _final(delivery, "bad_output", f"What the handler returned can't be written as JSON: {_text(error)}")
        if len(output) > _MAX_OUTPUT:
            return _final(
                delivery, "bad_output", f"The output has {len(output)} bytes; at most {_MAX_OUTPUT} are allowed."
            )
        front = b'"attempts":%b,%b,' % (delivery.attempt, delivery.head)
        flags = b"i" if delivery.input_bytes else b""
        if len(output) > self._inline:
            tail = b'%b"output_bytes":%d}' % (front, len(output))
            return Completion(delivery.entry, delivery.request_id, tail, flags + b"o", output)
        return Completion(delivery.entry, delivery.request_id, b'%b"output":%b}' % (front, output), flags)

    def of_error(self, delivery: Delivery, error: BaseException) -> Failure:
        """The outcome of a job whose handler raised: any exception, `SystemExit` and `KeyboardInterrupt` too."""
        if isinstance(error, Fail):
            detail = None if error.detail is None else _text(error.detail)[:_DETAIL_CHARACTERS]
            problem = Problem(_cut(error.type), _cut(error), detail)
            return Failure(delivery.entry, "final", 0, problem)
        if isinstance(error, Retry):
            delay = self._backoff_ms(delivery) if error.after is None else round(error.after * 1000)
            return Failure(delivery.entry, "retry", delay, Problem("retry", _cut(error)))
        problem = Problem("exception", _cut(_told(error)), _trace(error))
        self._log.warning(
            "handler failed",
            request_id=delivery.request_id.decode(),
            attempt=int(delivery.attempt),
            # Not as exc_info: however large the error is, the log line must not be.
            exception=f"{problem.detail}\n{problem.message}" if problem.detail else problem.message,
        )
        return Failure(delivery.entry, "retry", self._backoff_ms(delivery), problem)

    def bad_input(self, delivery: Delivery, error: Exception) -> Failure:
        """The input does not fit the handler's parameter: no use in trying again."""
        return _final(delivery, "bad_input", f"The input does not fit the model '{self._model}': {_text(error)}")

    def bad_results(self, delivery: Delivery, message: str) -> Failure:
        """A batch handler did not return one result per job."""
        return _final(delivery, "bad_output", message)

    def timeout(self, delivery: Delivery) -> Failure:
        """The handler took longer than the job's time limit."""
        problem = Problem("timeout", f"The handler did not finish within {delivery.timeout:g} seconds.")
        return Failure(delivery.entry, "retry", self._backoff_ms(delivery), problem)

    def lost_input(self, delivery: Delivery) -> Failure:
        """The input lay out of line, and is not there: perhaps only not where we looked, in the midst of a failover."""
        problem = Problem("input_lost", "The input was kept out of line and is gone.")
        return Failure(delivery.entry, "retry", self._backoff_ms(delivery), problem)

    def _backoff_ms(self, delivery: Delivery) -> int:
        """Twice as long each time, up to a cap; shortened by up to a half at random, so that many don't come at once."""
        doubled = self._policy.backoff_base_seconds * 2.0 ** min(int(delivery.attempt) - 1, _EXPONENT)
        return round(min(doubled, self._policy.backoff_cap_seconds) * random.uniform(500, 1000))


def expired(delivery: Delivery) -> Failure:
    """Its deadline passed before it was started."""
    return Failure(delivery.entry, "expired", 0)


def released(delivery: Delivery) -> Failure:
    """Handed back, no attempt used."""
    return Failure(delivery.entry, "release", 0)


def _final(delivery: Delivery, kind: str, message: str) -> Failure:
    return Failure(delivery.entry, "final", 0, Problem(kind, _cut(message)))


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"The handler called sys.exit({_text(error.code)})."
    name, text = type(error).__name__, _text(error)
    return f"{name}: {text}" if text else name


def _text(value: object) -> str:
    """Whatever a handler gave us, as text that can be written."""
    try:
        text = str(value)
    except Exception:
        text = f"(a {type(value).__name__} that can't be shown)"
    return text.encode(errors="replace").decode()


def _cut(value: object) -> str:
    text = _text(value)
    return text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"


def _trace(error: BaseException) -> str | None:
    """Where it was raised, from the handler on."""
    frames = error.__traceback__ and error.__traceback__.tb_next
    if frames is None:
        return None
    text = "".join(traceback.format_tb(frames)).rstrip()
    return text[-_DETAIL_CHARACTERS:].encode(errors="replace").decode()


def _plain(value: Any) -> Any:
    """Arrays and scalars of numpy, torch and their like as Python's own."""
    for name in ("tolist", "item"):
        convert = getattr(value, name, None)
        if callable(convert):
            return convert()
    raise TypeError(f"an object of the type {type(value).__qualname__} is not JSON")
