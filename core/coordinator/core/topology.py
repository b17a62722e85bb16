"""Where the Redis servers are: one URL form per way of running Redis, and who holds a key right now.

    redis://[user:password@]host:port[/db]          one server; several, separated by commas: partitions are dealt to them
    unix:///path/of/socket[?db=]                    one server on this machine
    redis+sentinel://[user:password@]host:port,host:port/service[/db]
    redis+cluster://[user:password@]host:port,host:port

With `rediss` for `redis` the same over TLS (sentinels, too). Options of redis-py's URLs may follow after `?`, such as
`ssl_ca_certs`; for sentinels that want a password of their own, `sentinel_username` and `sentinel_password`.

A server is looked up anew for each new connection, so after a failover it is enough to drop the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from coordinator.core import dialing
from coordinator.core.errors import Misconfigured

_T = TypeVar("_T")
Address = tuple[str, int]
SlotRange = tuple[int, int, list[Address]]

LOOKUP_SECONDS: Final = 0.6
"""Well below the patience of a step, so that one server that hangs doesn't use it up."""
_STAGGER_SECONDS: Final = 0.1
"""A cluster node that has not answered for so long is not waited for: the next one is asked, too."""
LINGER_SECONDS: Final = 0.1
"""For so long after the first sentinel's answer, others may say that they know better."""
_DEFAULT_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379


class Source(Protocol):
    """A way of running Redis."""

    def client(self, key: str, name: str, timeout: float | None) -> redis.asyncio.Redis:
        """A client of whichever server holds `key`, now and after each failover. `timeout`: seconds without an answer."""
        ...

    async def master(self, linger: float) -> Address | None:
        """The one server that all connections must lead to right now; None where a server itself says that it is another one.

        `linger`: for so many seconds after the first answer, others are heard. Raises the library's `ConnectionError`, when
        nobody knows.
        """
        ...


class Direct:
    """One server at a fixed address."""

    def __init__(self, url: str) -> None:
        self._options = _options(url)

    def client(self, key: str, name: str, timeout: float | None) -> redis.asyncio.Redis:
        return dialing.client(self._options, name, timeout)

    async def master(self, linger: float) -> None:
        return None


class Sentinels:
    """A master that sentinels know, with replicas that one of them may be promoted from."""

    def __init__(self, hosts: list[Address], service: str, options: dict[str, Any]) -> None:
        self.hosts = hosts
        self._service = service
        own = {"username": options.pop("sentinel_username", None), "password": options.pop("sentinel_password", None)}
        self._sentinel_options = {**_without_login(options), **own, "db": 0}
        self._shared = _Shared(self._lookup)
        self._options = {**options, "find": self.find, "redis_connect_func": dialing.introduce_to_master(self.find)}

    def client(self, key: str, name: str, timeout: float | None) -> redis.asyncio.Redis:
        return dialing.client(self._options, name, timeout)

    async def find(self) -> Address:
        """The master, by the sentinel that knows of the latest failover."""
        return await self._shared()

    async def master(self, linger: float) -> Address:
        """The same, asked after the call."""
        return await self._lookup(linger)

    async def _lookup(self, linger: float = LINGER_SECONDS) -> Address:
        asks = [partial(self._ask, address) for address in self.hosts]
        answers = await _answers(asks, stagger=0.0, linger=linger, trouble="no sentinel answers")
        return max(answers, key=lambda answer: answer[0])[1]

    async def _ask(self, address: Address) -> tuple[int, Address]:
        # By its fields the old master is the master until all replicas follow the new one, which may take minutes.
        fields, (ip, port) = await _raw(
            self._sentinel_options,
            address,
            ("SENTINEL", "MASTER", self._service),
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service),
        )
        known = dict(zip(fields[::2], fields[1::2], strict=False))
        return int(known[b"config-epoch"]), (ip.decode(), int(port))


class Cluster:
    """The node of a Redis Cluster that is master of a key's slot."""

    def __init__(self, seeds: list[Address], options: dict[str, Any]) -> None:
        self._seeds = seeds
        self._options = options
        self.ranges = _Shared(self._lookup)
        """Asks for the slots that are served: from, to, and by whom, masters first."""

    def client(self, key: str, name: str, timeout: float | None) -> redis.asyncio.Redis:
        find = partial(self.find, key_slot(key.encode()))
        return dialing.client({**self._options, "find": find}, name, timeout)

    async def master(self, linger: float) -> None:
        return None

    async def find(self, slot: int) -> Address:
        """The master of a slot."""
        for first, last, nodes in await self.ranges():
            if first <= slot <= last:
                return nodes[0]
        raise RedisConnectionError(f"no cluster node serves slot {slot}")

    async def _lookup(self) -> list[SlotRange]:
        # Another node is asked first each time, for one that was cut off keeps an old map.
        self._seeds = [*self._seeds[1:], self._seeds[0]]
        asks = [partial(self._slots, address) for address in self._seeds]
        return (await _answers(asks, stagger=_STAGGER_SECONDS, linger=0.0, trouble="no cluster node answers"))[0]

    async def _slots(self, address: Address) -> list[SlotRange]:
        (rows,) = await _raw(self._options, address, ("CLUSTER SLOTS",))
        # A node that does not know its own name leaves it out, or says "?": it is the one that we have just reached.
        ranges = [
            (
                int(first),
                int(last),
                [(node[0].decode() if node[0] and node[0] != b"?" else address[0], int(node[1])) for node in nodes],
            )
            for first, last, *nodes in rows
        ]
        known = [node for _, _, nodes in ranges for node in nodes]
        self._seeds = list(dict.fromkeys([*self._seeds, *known]))
        return ranges


def sources(url: str) -> list[Source]:
    """Read a URL (or several plain ones, separated by commas). Raises `Misconfigured`."""
    scheme, _, kind = url.partition("://")[0].partition("+")
    if not kind:
        return [Direct(one.strip()) for one in url.split(",")]
    if scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise Misconfigured(
            f"The Redis URL can't be read: '{scheme}+{kind}' is none of redis://, rediss://, unix://, redis+sentinel://, "
            "redis+cluster://."
        )
    parts = urlsplit(url)
    credentials, at, places = parts.netloc.rpartition("@")
    path = parts.path.strip("/")
    if kind == "cluster":
        hosts = _hosts(places, _DEFAULT_PORT)
        return [Cluster(hosts, _options(f"{scheme}://{credentials}{at}{_SOMEWHERE}?{parts.query}"))]
    service, _, db = path.partition("/")
    if not service:
        raise Misconfigured("A sentinel URL names its service: redis+sentinel://host:26379/mymaster")
    hosts = _hosts(places, _SENTINEL_PORT)
    return [Sentinels(hosts, service, _options(f"{scheme}://{credentials}{at}{_SOMEWHERE}/{db}?{parts.query}"))]


def without_password(url: str) -> str:
    """The URL with user and password left out, fit to be shown or handed to a worker."""
    plain = []
    for one in url.split(",") if url.startswith(("redis://", "rediss://")) else [url]:
        scheme, _, rest = one.partition("://")
        place, question, query = rest.partition("?")
        kept = "&".join(part for part in query.split("&") if "password" not in part.partition("=")[0])
        plain.append(f"{scheme}://{place.rpartition('@')[2]}{question if kept else ''}{kept}")
    return ",".join(plain)


_SOMEWHERE: Final = "somewhere"
"""Stands for the host while redis-py reads the rest of a URL."""


def _options(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise Misconfigured(f"The Redis URL can't be read: {error}") from error
    if options.get("host") == _SOMEWHERE:
        del options["host"]
    return options


def _without_login(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("username", "password")}


def _hosts(places: str, default_port: int) -> list[Address]:
    hosts = []
    for place in places.split(","):
        host, _, port = place.partition(":")
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        if not host or (port and not port.isdigit()):
            raise Misconfigured(f"The Redis URL can't be read: '{place}' is not host:port.")
        hosts.append((host, int(port or default_port)))
    return hosts


class _Shared(Generic[_T]):
    """A question whose answer all get who ask for it at the same time: a failover makes every connection ask at once."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[_T] | None = None

    async def __call__(self) -> _T:
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            self._task = asyncio.create_task(self._ask())
            # Those who asked may all have given up by the time that it fails.
            self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._task)


async def _raw(options: dict[str, Any], address: Address, *commands: tuple[str, ...]) -> list[Any]:
    """Ask one server on a connection of its own; the answer to each command."""
    node: Any = dialing.client(
        {**options, "host": address[0], "port": address[1]}, "coordinator-topology", LOOKUP_SECONDS
    )
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return [await node.execute_command(*command) for command in commands]
    finally:
        # Whoever is not needed any more is cancelled, perhaps while it closes.
        await asyncio.shield(node.aclose())


async def _answers(
    asks: Sequence[Callable[[], Awaitable[_T]]], *, stagger: float, linger: float, trouble: str
) -> list[_T]:
    """The first good answer, and whatever else is answered within `linger` seconds after it.

    Each ask is begun `stagger` seconds after the one before, or as soon as all begun have failed; none is waited for long.
    """
    loop = asyncio.get_running_loop()
    waiting = list(asks)
    running: set[asyncio.Future[_T]] = set()
    answers: list[_T] = []
    end = None
    try:
        while (running or waiting) and (end is None or loop.time() < end):
            if waiting and end is None:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
                if not stagger:
                    continue
            rest = None if end is None else end - loop.time()
            done, running = await asyncio.wait(
                running, timeout=stagger if waiting and end is None else rest, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    answers.append(task.result())
                except (RedisError, OSError, TimeoutError, KeyError, TypeError, ValueError) as error:
                    trouble = str(error) or trouble
                else:
                    end = end or loop.time() + linger
            if end is not None and not running:
                break
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if not answers:
        raise RedisConnectionError(trouble)
    return answers
