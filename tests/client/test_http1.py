"""HTTP/1.1 as servers and proxies really speak it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from coordinator.client import AsyncClient, InvalidInput, ProblemError, Refused, Unreachable
from coordinator.client.http1 import origin

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self, answers: tuple[bytes | None, ...]) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                if b"content-length" not in answer and b"chunked" not in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


Serve = Callable[..., Awaitable[tuple[Server, str]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[asyncio.Server] = []

    async def start(*answers: bytes | None) -> tuple[Server, str]:
        handler = Server(answers)
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        servers.append(server)
        return handler, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


async def _get(url: str, *, patience: float = 0.0, count: int = 1, repeatable: bool = True) -> list[bytes]:
    async with AsyncClient(url, patience=patience) as client:
        return [await client.request("GET", "/", repeatable=repeatable) for _ in range(count)]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (GOOD, b"{}"),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", b"old"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + GOOD, b"{}"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4;x=y\r\nWiki\r\n0A\r\n0123456789\r\n0\r\ntrailer: t\r\n\r\n",
            b"Wiki0123456789",
        ),
    ],
)
async def test_answers(serve: Serve, answer: bytes, body: bytes) -> None:
    _, url = await serve(answer)
    assert await _get(url) == [body]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * (2 << 20),
    ],
)
async def test_answers_that_are_none(serve: Serve, answer: bytes | None) -> None:
    _, url = await serve(answer)
    with pytest.raises(Unreachable, match=url):
        await _get(url)


async def test_a_connection_is_used_again(serve: Serve) -> None:
    server, url = await serve(GOOD, GOOD, GOOD)
    assert await _get(url, count=3) == [b"{}"] * 3
    assert server.connections == 1


async def test_a_connection_that_the_server_closes_is_not(serve: Serve) -> None:
    closing = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    server, url = await serve(closing, GOOD)
    assert await _get(url, count=2) == [b"{}"] * 2
    assert server.connections == 2


async def test_a_kept_connection_that_was_closed_meanwhile_costs_no_patience(serve: Serve) -> None:
    server, url = await serve(GOOD, None, GOOD)
    assert await _get(url, count=2) == [b"{}"] * 2
    assert server.connections == 2


async def test_what_must_not_be_done_twice_is_not_sent_twice(serve: Serve) -> None:
    server, url = await serve(None, GOOD)
    with pytest.raises(Unreachable):
        await _get(url, patience=10.0, repeatable=False)
    assert len(server.heads) == 1


async def test_what_the_url_says_goes_into_each_request(serve: Serve) -> None:
    server, url = await serve(GOOD)
    await _get(url.replace("//", "//ann:s3cret@") + "/behind/a/proxy/")
    (head,) = server.heads
    assert head.startswith(b"GET /behind/a/proxy/ HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nauthorization: Basic YW5uOnMzY3JldA==\r\n" in head


@pytest.mark.parametrize(
    ("status", "error"), [(502, Refused), (429, Refused), (302, ProblemError), (404, ProblemError)]
)
async def test_answers_of_somebody_else(serve: Serve, status: int, error: type[Exception]) -> None:
    _, url = await serve(b"HTTP/1.1 %d Whatever\r\ncontent-length: 6\r\n\r\n<html>" % status)
    with pytest.raises(error) as caught:
        await _get(url)
    assert str(status) in str(caught.value)


async def test_an_address_that_takes_too_long(serve: Serve) -> None:
    _, url = await serve(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", GOOD)
    async with AsyncClient(url, timeout=0.05, patience=0.0) as client:
        with pytest.raises(Unreachable, match="too long"):
            await client.request("GET", "/")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "http://[::1", "http://a:x", "http://ä b"]
)
def test_urls_that_cannot_be_one(url: str) -> None:
    with pytest.raises(InvalidInput, match="not"):
        origin(url)
