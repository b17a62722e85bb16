"""JSON bodies: decoded by msgspec into the structs of `schemas.py`, or refused with the field and the reason."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from coordinator.api.problems import Problem, invalid

_T = TypeVar("_T")
MAX_DEPTH: Final = 500
"""How deep an input may be nested. Decoders give up a little below 1000, each at another depth: far below, all agree."""
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_AT: Final = re.compile(r" - at `(key in )?\$([^`]*)`$")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")


def decode(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw) -> _T:
    """Decode a body. Raises `Problem` (malformed-json, invalid-request)."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(str(error)) from None
    except RecursionError:
        raise _too_deep() from None


def malformed(why: str) -> Problem:
    """The problem of a body that is not JSON."""
    return Problem("malformed-json", f"The body is not valid JSON: {why.removeprefix('JSON is malformed: ')}.")


def is_text(body: bytes) -> bool:
    """Whether the body is UTF-8. The decoder does not look into what it passes through raw, so we do."""
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_shallow(raw: bytes) -> bool:
    """Whether valid JSON is, by the number of its brackets, surely nested no deeper than `MAX_DEPTH`."""
    return raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH


def check_depth(raw: bytes) -> None:
    """Raise `Problem` if valid JSON is nested deeper than `MAX_DEPTH`."""
    if is_shallow(raw):
        return
    brackets = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise _too_deep()


def _too_deep() -> Problem:
    return invalid(f"The body is nested deeper than {MAX_DEPTH} levels.", pointer="#")


def _invalid(message: str) -> Problem:
    """msgspec's message, with its path turned into a JSON pointer."""
    path = ""
    at = _AT.search(message)
    if at is not None:
        path = at[2].replace("[...]", "/*").replace(".", "/").replace("[", "/").replace("]", "")
        message = message[: at.start()]
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is not None:
        path += f"/{unknown[1]}"
    where = f" at {path}" if path else ""
    return invalid(f"{message}{where}.", pointer=f"#{path}")
