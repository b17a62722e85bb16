"""What comes by query, header and path on the hot routes, checked."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from coordinator.api.problems import invalid

_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_KEY: Final = re.compile(rb"[\x20-\x7e]{1,200}")
_PREFER_WAIT: Final = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


def wait_of(query: bytes, max_wait: float) -> float | None:
    """`?wait=` in seconds, None if it is not there. Raises `Problem`."""
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "wait":
            return checked_wait(value, max_wait)
    return None


def checked_wait(text: str, max_wait: float) -> float:
    """A wait in seconds. Raises `Problem` unless it is a number from 0 to `max_wait`."""
    if _NUMBER.fullmatch(text) is None or not 0 <= float(text) <= max_wait:
        raise invalid(f"wait must be a number of seconds from 0 to {max_wait:g}.", parameter="wait")
    return float(text)


def asked_wait(query: bytes, prefer: bytes | None, max_wait: float) -> tuple[float, bytes | None]:
    """How long the client wants to wait, in seconds, and the `Preference-Applied` header that this deserves.

    What the query says goes before the preference. Raises `Problem`.
    """
    wait = wait_of(query, max_wait) if query else None
    if wait is None and prefer is not None:
        wait = preferred_wait(prefer, max_wait)
        if wait is not None:
            return wait, b"wait=%d" % wait
    return wait or 0.0, None


def preferred_wait(prefer: bytes, max_wait: float) -> float | None:
    """`Prefer: wait=N` (RFC 7240) in seconds, at most `max_wait`; None if there is none. A preference is never an error."""
    match = _PREFER_WAIT.search(prefer)
    return None if match is None else min(float(match[1]), max_wait)


def idempotency_key(value: bytes) -> str:
    """The value of an `Idempotency-Key` header. Raises `Problem`."""
    if _KEY.fullmatch(value) is None:
        raise invalid("Idempotency-Key must have 1 to 200 printable ASCII characters.", header="Idempotency-Key")
    return value.decode("ascii")
