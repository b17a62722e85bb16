"""HTTP/1.1 as the coordinator needs it: kept connections, small requests by the thousand, nothing else.

A general HTTP library takes a millisecond and more of CPU per request, which is what a producer has least of.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from coordinator.core.errors import InvalidInput

_CONNECT_SECONDS: Final = 5.0
_KEEP_SECONDS: Final = 4.0
"""How long an unused connection is kept; less than servers and proxies keep theirs, or a request meets one being closed."""
_BUFFER: Final = 1 << 20
_NO_BODY: Final = frozenset((204, 304))


class Response(NamedTuple):
    """An answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class NotConnected(OSError):
    """There is no connection, so nothing was sent."""


class BadAnswer(OSError):
    """What came back is no HTTP."""


class _Stale(OSError):
    """The server had closed a kept connection before it saw the request, or while it did."""


class Origin(NamedTuple):
    """What a URL says of where to connect, and what goes into each request."""

    host: str
    port: int
    tls: bool
    path: str
    """What comes before every path, without a slash at its end."""
    head: bytes
    """The headers that all requests share."""


def origin(url: str) -> Origin:
    """Read a coordinator's URL. Raises `InvalidInput`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"'{url}' is not a URL: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not (url.isascii() and url.isprintable()):
        raise InvalidInput(f"'{url}' is not the URL of a coordinator; it looks like http://127.0.0.1:8000.")
    tls = parts.scheme == "https"
    credentials, _, place = parts.netloc.rpartition("@")
    head = f"host: {place}\r\nuser-agent: central-coordinator\r\n"
    if credentials:
        token = base64.b64encode(unquote(credentials).encode()).decode()
        head += f"authorization: Basic {token}\r\n"
    return Origin(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"), head.encode())


class _Connection:
    """One connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.used = False
        self.idle_since = 0.0

    def usable(self, now: float) -> bool:
        return now - self.idle_since < _KEEP_SECONDS and not self._reader.at_eof() and not self.writer.is_closing()

    async def exchange(self, request: bytes) -> tuple[Response, bool]:
        """Send, and read the answer. Returns it, and whether the connection may be used again."""
        self.writer.write(request)
        reader = self._reader
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                if self.used and not getattr(error, "partial", b""):
                    raise _Stale("the connection was closed") from error
                raise
            except asyncio.LimitOverrunError as error:
                raise BadAnswer("the answer's headers are too long") from error
            status, keep, headers = _parse(head)
            if status >= 200:
                break
        if status in _NO_BODY:
            body = b""
        elif "chunked" in headers.get("transfer-encoding", ""):
            body = await self._chunks()
        elif "content-length" in headers:
            body = await reader.readexactly(_number(headers["content-length"], 10))
        else:
            body = await reader.read()
            keep = False
        self.used = True
        return Response(status, headers, body), keep

    async def _chunks(self) -> bytes:
        chunks = []
        while size := _number((await self._reader.readuntil(b"\r\n")).partition(b";")[0].decode("latin-1"), 16):
            chunks.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(chunks)


class Connections:
    """The connections to one origin: as many as there are requests at once. Used from one event loop."""

    def __init__(self, to: Origin) -> None:
        self._origin = to
        self._tls = ssl.create_default_context() if to.tls else None
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, *, repeatable: bool
    ) -> Response:
        """One request, one answer. Raises `OSError` or `EOFError`; of these, `NotConnected` if nothing was sent."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content is not None:
            lines += f"content-length: {len(content)}\r\n"
        elif method != "GET":
            lines += "content-length: 0\r\n"
        request = b"%b %b%b HTTP/1.1\r\n%b%b\r\n%b" % (
            method.encode(),
            self._origin.path.encode(),
            path.encode(),
            self._origin.head,
            lines.encode(),
            content or b"",
        )
        connection = self._kept()
        if connection is not None:
            try:
                return await self._use(connection, request)
            except _Stale:
                if not repeatable:
                    raise
        return await self._use(await self._connect(), request)

    async def close(self) -> None:
        """Close all; requests under way fail."""
        closing = list(self._all)
        self._idle.clear()
        self._all.clear()
        for connection in closing:
            connection.writer.close()
        for connection in closing:
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()

    def _kept(self) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(now):
                return connection
            self._drop(connection)
        return None

    async def _connect(self) -> _Connection:
        to = self._origin
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                streams = await asyncio.open_connection(to.host, to.port, ssl=self._tls, limit=_BUFFER)
        except (OSError, TimeoutError) as error:
            raise NotConnected(str(error) or "it takes no connection") from error
        connection = _Connection(*streams)
        self._all.add(connection)
        return connection

    async def _use(self, connection: _Connection, request: bytes) -> Response:
        try:
            response, keep = await connection.exchange(request)
        except BaseException:
            self._drop(connection)
            raise
        if keep and connection in self._all:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            self._drop(connection)
        return response

    def _drop(self, connection: _Connection) -> None:
        self._all.discard(connection)
        connection.writer.close()


def _parse(head: bytes) -> tuple[int, bool, dict[str, str]]:
    """Status, whether the connection stays, and headers."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    if not protocol.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise BadAnswer("the answer is not HTTP")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    keep = headers.get("connection", "" if protocol == "HTTP/1.1" else "close").lower() != "close"
    return int(rest[:3]), keep, headers


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BadAnswer("the answer's length can't be read")
    return number
