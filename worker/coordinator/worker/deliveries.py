"""Deliveries: inbox entries as they come from Redis, and the handler calls that are made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec

_INPUT: Final = b',"input":'


class Delivery:
    """One inbox entry that was delivered to this worker."""

    __slots__ = (
        "answered",
        "attempt",
        "crashed",
        "deadline_at",
        "delivered",
        "entry",
        "head",
        "held",
        "input",
        "input_bytes",
        "request_id",
        "serial",
        "timeout",
    )

    def __init__(
        self,
        serial: int,
        entry: bytes,
        request_id: bytes,
        attempt: bytes,
        head: bytes,
        text: bytes,
        timeout: float,
        delivered: float,
    ) -> None:
        self.serial = serial
        """Counts what was read: neighbours stood side by side in the inbox."""
        self.entry = entry
        self.request_id = request_id
        self.attempt = attempt
        self.head = head
        """The job document before its input, without the brace: what the record repeats."""
        self.input = text
        """JSON."""
        self.answered = False
        """Its outcome is decided, or it was lost: whatever the handler still returns is thrown away."""
        self.crashed = False
        """A worker died on it before: a suspect."""
        self.held = False
        """It waits at the gate, and Redis is told so."""
        self.deadline_at: int | None = None
        """ms of Redis TIME by which it must have started, if it is the first attempt."""
        self.input_bytes = 0
        """Above 0: the input lies out of line."""
        self.timeout = timeout
        """Seconds that its call may take."""
        self.delivered = delivered
        """Monotonic seconds."""

    @property
    def order(self) -> tuple[int, int]:
        """The entry id, in its order."""
        ms, _, sequence = self.entry.partition(b"-")
        return int(ms), int(sequence)


class Call:
    """One call of a handler: with one delivery, or with a batch of them."""

    __slots__ = ("abandoned", "deliveries", "finished", "running", "started", "task")

    def __init__(self, deliveries: list[Delivery]) -> None:
        self.deliveries = deliveries
        self.running = deliveries
        """Those whose inputs the handler was given, in that order."""
        self.started = 0.0
        """Monotonic seconds; 0 until the handler is called."""
        self.finished = False
        self.abandoned = False
        """Nobody waits for its end any more."""
        self.task: asyncio.Task[None] | None = None


class _Options(msgspec.Struct):
    deadline_at: int | None = None
    timeout_ms: int | None = None
    input_bytes: int = 0


_decode_options: Final = msgspec.json.Decoder(_Options).decode


class Reading:
    """Reads the entries of one model. `timeout`: seconds that a call may take when the job doesn't say."""

    def __init__(self, model: str, timeout: float) -> None:
        self.timeout = timeout
        self._serial = 0
        # Most jobs bring no options; the length of the head tells, without looking into it.
        self._plain = len(b'{"submitted_at":1700000000000,"model":"%b"' % model.encode())

    def deliveries(self, rows: Iterable[Any], now: float) -> list[Delivery]:
        """Rows of an XREADGROUP reply as deliveries; entries that are gone from the stream are left out."""
        found = []
        timeout, plain, serial = self.timeout, self._plain, self._serial
        for entry, fields in rows:
            serial += 1
            if fields is None:
                continue
            document: bytes = fields[-1]
            cut = document.find(_INPUT)
            head, text = document[1:cut], document[cut + 9 : -1]
            delivery = Delivery(serial, entry, fields[1], fields[3], head, text, timeout, now)
            if len(fields) > 6:
                delivery.crashed = True
            if cut != plain:
                self._read_options(delivery)
            found.append(delivery)
        self._serial = serial
        return found

    def _read_options(self, delivery: Delivery) -> None:
        options = _decode_options(b"{%b}" % delivery.head)
        if options.timeout_ms is not None:
            delivery.timeout = options.timeout_ms / 1000
        if delivery.attempt == b"1":
            delivery.deadline_at = options.deadline_at
        delivery.input_bytes = options.input_bytes
