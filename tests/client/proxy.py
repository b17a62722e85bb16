"""A TCP proxy that can lose a reply: the server has done the work, and its client never hears of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Forwards a free local port to `host:port`. `cut_replies(n)`: the next n replies are lost with their connection."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._cutting = 0
        self.cut = 0
        """How many replies were lost."""

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut_replies(self, count: int = 1) -> None:
        self._cutting += count

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for stream in list(self._streams):
            stream.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._streams |= {writer, upstream}
        try:
            requests = asyncio.create_task(self._pass_on(reader, upstream))
            await self._pass_on(upstream_reader, writer, replies=True)
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)
        finally:
            self._streams -= {writer, upstream}
            writer.close()
            upstream.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if replies and self._cutting:
                    self._cutting -= 1
                    self.cut += 1
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
