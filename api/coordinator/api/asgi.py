"""The hot path's plumbing: an endpoint is an async function from request to `Answer`, and nothing lies in between.

Plain ASGI instead of a framework's request and response objects: that is worth about a third of a POST's CPU time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, NamedTuple, TypeAlias

from starlette.types import Receive, Scope, Send

from coordinator.api import problems
from coordinator.api.problems import Problem
from coordinator.api.tally import Tally
from coordinator.core import logging
from coordinator.core.errors import CoordinatorError

Headers: TypeAlias = list[tuple[bytes, bytes]]
JSON: Final = (b"content-type", b"application/json")


class Answer(NamedTuple):
    """A response. `headers` lacks only the content length."""

    status: int
    headers: Headers
    body: bytes


class ClientGone(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


Endpoint: TypeAlias = Callable[[Scope, Receive], Awaitable[Answer]]


class Hot:
    """An ASGI application around one endpoint. Every error becomes a problem document here."""

    def __init__(self, endpoint: Endpoint, method: str, path: str, tally: Tally) -> None:
        self._endpoint = endpoint
        self._method = method
        self._path = path
        self._tally = tally
        self._log = logging.get("http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        try:
            status, headers, body = await self._endpoint(scope, receive)
        except (Problem, CoordinatorError) as error:
            status, headers, body = answer_problem(error)
        except ClientGone:
            return
        except Exception as error:
            self._log.exception("unhandled error", method=scope["method"], path=scope["path"])
            status, headers, body = answer_problem(error)
        self._tally.answered(self._method, self._path, status, perf_counter() - began)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def answer_problem(error: Exception) -> Answer:
    """The answer to an exception."""
    problem = problems.of(error)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in problems.headers_of(problem).items()]
    return Answer(problems.KINDS[problem.kind].status, headers, problems.encode(problem))


async def read_body(receive: Receive, limit: int, announced: bytes | None = None) -> bytes:
    """The request's body. Raises `Problem` (too-large) as soon as it is known to be over `limit` bytes, `ClientGone`.

    `announced`: the content-length header. What still comes of a body that was refused is read and dropped by the
    server, so that a client which sends all before it reads still gets to see the answer.
    """
    if announced is not None and (len(announced) > 15 or (announced.isdigit() and int(announced) > limit)):
        raise problems.too_large("The body", limit)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise problems.too_large("The body", limit)
        return body
    chunks = [body]
    size = len(body)
    while size <= limit:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if not message.get("more_body", False) and size <= limit:
            return b"".join(chunks)
    raise problems.too_large("The body", limit)
