"""An HTTP load generator: `load.py URL METHOD BODY CLIENTS COUNT [HEADER…]`.

Each client has one kept connection and one request in flight. It does as little as can be per request, so that the
server is what is measured. Prints requests/s and latencies as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """Sends the same request again and again."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._begin = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self._load.left <= 0:
            self._load.ended()
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
        at = buffer.find(b"content-length: ", 0, head) + 16
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
    def __init__(self, request: bytes, clients: int, count: int) -> None:
        self.request = request
        self.left = count
        self.clients = clients
        self.times: list[float] = []
        self.statuses: dict[bytes, int] = {}
        self.done = asyncio.get_running_loop().create_future()

    def ended(self) -> None:
        self.clients -= 1
        if self.clients <= 0 and not self.done.done():
            self.done.set_result(None)


async def main(url: str, method: str, body: str, clients: int, count: int, headers: list[str]) -> dict[str, object]:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    load = Load(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), clients, count)
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
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    _url, _method, _body, _clients, _count, *_headers = sys.argv[1:]
    if _body.startswith("@"):
        with open(_body[1:]) as _file:
            _body = _file.read()
    print(json.dumps(uvloop.run(main(_url, _method, _body, int(_clients), int(_count), _headers))))
