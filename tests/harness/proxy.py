"""A TCP proxy between a process and its Redis that does to the connections what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final, Self

CUT_COMMAND: Final = "cut command"
"""The connection ends; the server never got the command."""
CUT_REPLY: Final = "cut reply"
"""The connection ends; the server has done the work, and its client never hears of it."""
DELAY: Final = "delay"
"""The reply comes, but late."""
SILENCE: Final = "silence"
"""Half-open: whatever either side says is swallowed, and nobody is told."""
KINDS: Final = (CUT_COMMAND, CUT_REPLY, DELAY, SILENCE)
_CONNECT_SECONDS: Final = 5.0


class Proxy:
    """Forwards a free local port to `host:port`.

    `cut_replies(n)`: the next n replies are lost with their connection. `disturb(kind, rate)`: from now on, of what
    passes (commands, or replies) that share is hit. `calm()`: no more of that; connections that fell silent end now.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self._target = (host, port)
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._cutting = 0
        self._kind = ""
        self._rate = 0.0
        self._delay = 0.0
        self._calmed = asyncio.Event()
        self.hits = 0
        """How often it has done harm."""

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_replies(self, count: int = 1) -> None:
        self._cutting += count

    def disturb(self, kind: str, rate: float, *, delay: float = 0.0) -> None:
        """Hit that share of what passes. `delay`: seconds, of `DELAY`."""
        assert kind in KINDS
        self._kind, self._rate, self._delay = kind, rate, delay

    def calm(self) -> None:
        self._kind, self._rate = "", 0.0
        self._calmed.set()
        self._calmed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.calm()
        for stream in list(self._streams):
            stream.transport.abort()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._streams |= {writer, upstream}
        ways = [
            asyncio.create_task(self._pass_on(reader, upstream, replies=False)),
            asyncio.create_task(self._pass_on(upstream_reader, writer, replies=True)),
        ]
        try:
            # One way ends: so does the connection, both sides of it.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._streams -= {writer, upstream}
            for stream in (writer, upstream):
                stream.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if replies and self._cutting:
                    self._cutting -= 1
                    self.hits += 1
                    return
                match self._hit(replies):
                    case "cut command" | "cut reply":
                        return
                    case "delay":
                        await asyncio.sleep(self._delay)
                    case "silence":
                        await self._calmed.wait()
                        return
                writer.write(data)
                await writer.drain()

    def _hit(self, replies: bool) -> str:
        """What happens to what passes just now."""
        if not self._kind or replies == (self._kind == CUT_COMMAND) or self._random.random() >= self._rate:
            return ""
        self.hits += 1
        return self._kind
