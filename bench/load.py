"""An HTTP load generator: `load.py URL BODY CLIENTS COUNT`; a BODY of `@file` is read from there.

Each client has one kept connection and one POST in flight. It does as little as can be per request, so that the server
is what is measured. Prints requests/s and latencies in ms as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """Sends the same request again and again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._begin = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        if self._load.left <= 0:
            self._transport.close()
            return
        self._load.left -= 1
        self._begin = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = buffer
            return
        at = buffer.lower().find(b"content-length: ", 0, head) + 16
        length = int(buffer[at : buffer.find(b"\r", at)])
        if len(buffer) < head + 4 + length:
            self._buffer = buffer
            return
        self._buffer = b""
        self._load.times.append(time.perf_counter() - self._begin)
        status = buffer[9:12]
        self._load.statuses[status] = self._load.statuses.get(status, 0) + 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.ended()


class Load:
    """What all clients share."""

    def __init__(self, request: bytes, clients: int, count: int) -> None:
        self.request = request
        self.left = count
        self.times: list[float] = []
        self.statuses: dict[bytes, int] = {}
        self.done = asyncio.get_running_loop().create_future()
        self._clients = clients

    def ended(self) -> None:
        self._clients -= 1
        if self._clients <= 0 and not self.done.done():
            self.done.set_result(None)


async def main(url: str, body: bytes, clients: int, count: int) -> dict[str, object]:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
    lines.append(f"content-length: {len(body)}")
    load = Load(("\r\n".join(lines) + "\r\n\r\n").encode() + body, clients, count)
    loop = asyncio.get_running_loop()
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(load), parts.hostname or "127.0.0.1", parts.port or 80)
    await load.done
    seconds = time.perf_counter() - begin
    times = sorted(load.times)
    return {
        "per_second": len(times) / seconds,
        "p50": times[len(times) // 2] * 1000,
        "p99": times[len(times) * 99 // 100] * 1000,
        "statuses": {status.decode(): number for status, number in load.statuses.items()},
        "answered": len(times),
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    _url, _body, _clients, _count = sys.argv[1:]
    _bytes = Path(_body[1:]).read_bytes() if _body.startswith("@") else _body.encode()
    print(json.dumps(uvloop.run(main(_url, _bytes, int(_clients), int(_count)))))
