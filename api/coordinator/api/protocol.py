"""What uvicorn's HTTP/1.1 lacks: a limit on the head, problem documents for broken requests, and one write a response."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from coordinator.api import problems
from coordinator.api.problems import Problem

MAX_HEAD_BYTES: Final = 64 << 10
"""URL and headers of one request, beyond what came with its first packet."""
_INTERIM: Final = b"HTTP/1.1 1"


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with a limit on the head, which the parser does not have, and problem documents for broken requests."""

    _in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(cast(asyncio.Transport, OneWrite(transport, self.loop)))

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        continued = self._in_head
        super().data_received(data)
        if continued and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(Problem("head-too-large", f"More than {MAX_HEAD_BYTES} bytes of URL and headers."))

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("malformed-http", msg))

    def _refuse(self, problem: Problem) -> None:
        content = problems.encode(problem)
        self.transport.write(
            STATUS_LINE[problems.KINDS[problem.kind].status]
            + b"content-type: %b\r\n" % problems.MEDIA_TYPE.encode()
            + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(content)
            + content
        )
        self.transport.close()


class OneWrite:
    """A transport that holds the head of a response back until its body comes, and writes both at once.

    uvicorn writes them one after the other, which costs a second system call and often a second packet: a quarter of what
    a short request costs in all. Where no body follows in the same turn of the loop, the head goes by itself.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._write = transport.write
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write, or hold back, what uvicorn writes."""
        if self._head:
            data = self._head + data
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(_INTERIM):
            self._head = data
            self._call_soon(self._flush)
            return
        self._write(data)

    def close(self) -> None:
        """Close once all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
