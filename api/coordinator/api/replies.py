"""The cold routes' way in and out: bodies decoded, and answers encoded, by msgspec like on the hot path."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec
from fastapi import Request
from starlette.responses import Response

from coordinator.api import bodies, problems
from coordinator.api.asgi import read_body
from coordinator.api.problems import Problem

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode
MAX_BYTES: Final = 64 << 10
"""The largest body of a request that is not a job."""


async def body_of(request: Request, decoder: msgspec.json.Decoder[_T], *, default: _T | None = None) -> _T:
    """The request's body, decoded; `default` if there is none. Raises `Problem`."""
    announced = request.headers.get("content-length")
    body = await read_body(request.receive, MAX_BYTES, None if announced is None else announced.encode("latin-1"))
    if default is not None and not body.strip():
        return default
    if not bodies.is_text(body):
        raise bodies.malformed("it is not UTF-8")
    return bodies.decode(decoder, body)


def reply(value: msgspec.Struct, status: int = 200, *, location: str | None = None) -> Response:
    """A struct as a JSON response."""
    headers = None if location is None else {"location": location}
    return Response(_encode(value), status, headers, "application/json")


def problem_response(problem: Problem) -> Response:
    """A problem as a response."""
    status = problems.KINDS[problem.kind].status
    return Response(problems.encode(problem), status, problems.headers_of(problem))


def time_of(ms: int) -> datetime:
    """Redis time in ms as a UTC time."""
    return datetime.fromtimestamp(ms / 1000, UTC)
