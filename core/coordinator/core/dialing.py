"""Connections and clients: how a socket to Redis is opened, whether its address is known or has to be asked for.

The library's own retries are off everywhere, and commands are packed by hiredis, which halves what a command costs a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import hiredis
import redis.asyncio
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

CONNECT_SECONDS: Final = 1.0
_SLOW_SECONDS: Final = 0.1

Find = Callable[[], Awaitable[tuple[str, int]]]
"""Says which server to connect to. Raises the library's `ConnectionError` when nobody knows."""


class Own:
    """What our connections can do beyond redis-py's."""

    _writer: asyncio.StreamWriter | None
    socket_timeout: float | None
    outdated = False
    """To be opened anew before it is used again."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send within the timeout. redis-py does that by `asyncio.wait_for`, which before Python 3.12 may swallow a
        cancellation: a reader that is told to stop would read on.
        """
        send = super().send_packed_command  # type: ignore[misc]  # of what we are mixed into
        timeout = self.socket_timeout
        try:
            if timeout is None:
                await send(command, check_health)
                return
            self.socket_timeout = None
            try:
                async with asyncio.timeout(timeout):
                    await send(command, check_health)
            finally:
                self.socket_timeout = timeout
        except RuntimeError as error:
            # What uvloop says when the line was cut between two commands; redis-py knows only OSError.
            raise RedisConnectionError(str(error)) from error

    def hang_up(self) -> None:
        """Cut the line. Whoever reads or writes on it just now gets a `ConnectionError`, as if the server had done it."""
        if self._writer is not None:
            self._writer.transport.abort()

    def pack_command(self, *args: Any) -> list[bytes]:
        """By hiredis, as redis-py does it for its synchronous connections."""
        name = args[0]
        if isinstance(name, str):
            name = name.encode()
        # A name such as CLUSTER SLOTS is two words for the server.
        packed: bytes = hiredis.pack_command((*name.split(), *args[1:]))
        return [packed]


class _Tcp(Own, Connection):
    """To a fixed address."""


class _Tls(Own, SSLConnection):
    """To a fixed address, by TLS."""


class _Unix(Own, UnixDomainSocketConnection):
    """To a socket of this machine."""


class _Found(_Tcp):
    """To a server that is asked for each time that the connection is opened."""

    def __init__(self, *, find: Find, **options: Any) -> None:
        self._find = find
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py has no types here


class _FoundTls(_Tls):
    """The same by TLS."""

    def __init__(self, *, find: Find, **options: Any) -> None:
        self._find = find
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py has no types here


class Pool(ConnectionPool):
    """A pool that can be told that its server is not the right one any more."""

    async def call(self, *args: Any) -> Any:
        """Send one command, and return its reply as it came. What a client's `execute_command` does besides (metrics, locks,
        retries, callbacks) costs as much as packing, sending and reading together.
        """
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
        try:
            await self.ensure_connection(connection)
            await connection.send_packed_command(connection.pack_command(*args), check_health=False)
            return await connection.read_response()
        finally:
            self._give_back(connection)

    async def calls(self, *commands: tuple[Any, ...]) -> tuple[list[Any], tuple[str, int]]:
        """Send commands on one connection; their replies, errors among them, and where the connection leads to."""
        connection: Any = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
        try:
            await self.ensure_connection(connection)
            packed = [part for command in commands for part in connection.pack_command(*command)]
            await connection.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            return replies, (getattr(connection, "host", ""), getattr(connection, "port", 0))
        finally:
            self._give_back(connection)

    def _give_back(self, connection: Any) -> None:
        self._in_use_connections.discard(connection)
        self._available_connections.append(connection)

    async def ensure_connection(self, connection: Any) -> None:
        if connection.outdated:
            await connection.disconnect(nowait=True)
            connection.outdated = False
        await super().ensure_connection(connection)

    def hang_up(self) -> None:
        """Cut the connections in use: whoever reads from one gets a `ConnectionError`."""
        in_use: list[Any] = [*self._in_use_connections]
        for connection in in_use:
            connection.hang_up()

    async def drop(self) -> None:
        """Close what is idle. Connections in use are left to those who use them now, and opened anew for the next."""
        for connection in self._in_use_connections:
            connection.outdated = True  # type: ignore[attr-defined]  # all of ours are `Own`
        # Taken out of the pool first: a connection must not be handed out while it is being closed.
        idle: list[Any] = [*self._available_connections]
        self._available_connections.clear()
        for connection in idle:
            await connection.disconnect(nowait=True)

    def leads_only_to(self, address: tuple[str, int]) -> bool:
        """Whether no connection leads to another server than the one at `address`."""
        every: list[Any] = [*self._available_connections, *self._in_use_connections]
        return all((one.host, one.port) == address for one in every if one.is_connected)


def client(options: dict[str, Any], name: str, timeout: float | None) -> redis.asyncio.Redis:
    """A client by redis-py's connection `options`, and our own `find`; `timeout`: seconds without an answer."""
    options = {
        "redis_connect_func": introduce,
        **options,
        "protocol": 2,
        "client_name": name,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    tls = options.get("connection_class") is SSLConnection
    if "path" in options:
        options["connection_class"] = _Unix
    else:
        options["socket_keepalive"] = True
        if "find" in options:
            options["connection_class"] = _FoundTls if tls else _Found
        else:
            options["connection_class"] = _Tls if tls else _Tcp
    made = redis.asyncio.Redis(connection_pool=Pool(max_connections=100_000, **options))
    made.auto_close_connection_pool = True
    callbacks: Any = made.response_callbacks
    callbacks["XREADGROUP"] = callbacks["CLUSTER SLOTS"] = lambda reply, **_: reply
    return made


async def introduce(connection: AbstractConnection) -> None:
    """redis-py's own handshake, but with an end: a server that hangs accepts connections, too."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.on_connect()
    except TimeoutError:
        raise RedisTimeoutError("the server accepts connections, but does not answer") from None


def introduce_to_master(find: Find) -> Callable[[Any], Awaitable[None]]:
    """The same, and hang up on a server that is not the master any more, by its own word or by that of `find`."""

    async def introduced(connection: Any) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await introduce(connection)
        await connection.send_command("ROLE", check_health=False)
        role = await connection.read_response(timeout=CONNECT_SECONDS)
        if not role or role[0] != b"master":
            raise RedisConnectionError("this server is a replica now")
        # One that hung may have been replaced meanwhile, and learns that last of all.
        if loop.time() - began > _SLOW_SECONDS and await find() != (connection.host, connection.port):
            raise RedisConnectionError("another server is the master now")

    return introduced
