"""The inbox: reads what the coordinator has assigned to this worker, as many entries as there are free slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from coordinator.core import keys, logging
from coordinator.core.connection import BLOCK_MS, Partition
from coordinator.core.errors import Refused
from coordinator.worker.deliveries import Delivery, Reading

_PAGE: Final = 512
"""The most entries of one read: they keep Redis busy, and their inputs lie in memory."""
_BLOB_BYTES: Final = 4 << 20
_LONGEST_PAUSE: Final = 1.0
_GHOST_SECONDS: Final = BLOCK_MS / 1000 + 0.5
"""For so long a read whose line was cut may still take entries: Redis goes on serving it until it notices."""


class Inbox:
    """One model's inbox. A duty: `run()` reads until cancelled.

    `slots`: waits for free slots and tells how many. `deliver`: takes what came. `known`: ids of entries that are in
    work. `gone`: called when the inbox does not exist any more; returns once it does again.
    """

    def __init__(
        self,
        partition: Partition,
        worker: str,
        model: str,
        reading: Reading,
        *,
        slots: Callable[[], Awaitable[int]],
        deliver: Callable[[list[Delivery]], None],
        known: Collection[bytes],
        gone: Callable[[], Awaitable[None]],
    ) -> None:
        self._partition = partition
        self._worker = worker
        self._stream = keys.inbox(partition.index, worker, model)
        self._reading = reading
        self._slots = slots
        self._deliver = deliver
        self._known = known
        self._gone = gone
        self._log = logging.get("inbox").bind(model=model)
        self._client: Redis | None = None
        self._look_again_at: float | None = None

    async def run(self) -> None:
        pause = 0.0
        try:
            while True:
                try:
                    if self._client is None:
                        self._client = self._partition.blocking()
                        await self._catch_up(self._client)
                        self._look_again_at = time.monotonic() + _GHOST_SECONDS
                        if pause:
                            self._log.info("reads again")
                        pause = 0.0
                    await self.read(self._client)
                    if self._look_again_at is not None and time.monotonic() >= self._look_again_at:
                        self._look_again_at = None
                        await self._catch_up(self._client)
                except (RedisError, OSError, Refused, asyncio.IncompleteReadError) as error:
                    await self._disconnect()
                    if isinstance(error, ResponseError) and _no_inbox(error):
                        await self._gone()
                        await asyncio.sleep(pause)
                        pause = min(max(pause * 2, 0.05), _LONGEST_PAUSE)
                        continue
                    if not pause:
                        self._log.warning("can't read, goes on trying", error=str(error))
                    pause = min(max(pause * 2, 0.05), _LONGEST_PAUSE)
                    await asyncio.sleep(pause)
        finally:
            await self._disconnect()

    async def read(self, client: Redis) -> None:
        """Read once: as many entries as there are free slots; blocks up to two seconds."""
        count = await self._slots()
        rows = await self._rows(client, ">", min(count, _PAGE), BLOCK_MS)
        if rows:
            await self._hand_over(self._reading.deliveries(rows, time.monotonic()))

    async def unread(self) -> list[Delivery]:
        """Fetch all that was not read yet, or that was delivered into the void; for handing it back."""
        client: Any = self._partition.redis
        found: list[Delivery] = []
        while rows := await self._partition.patiently(lambda: self._rows(client, ">", _PAGE)):
            found += self._reading.deliveries(rows, time.monotonic())
        seen = {delivery.entry for delivery in found}
        return found + [d for d in await self._pending(client) if d.entry not in seen]

    async def _catch_up(self, client: Redis) -> None:
        """Take up entries whose delivery got lost with its connection: they are pending, but we never saw them."""
        lost = await self._pending(client)
        if lost:
            self._log.info("takes up deliveries that got lost", jobs=len(lost))
            await self._hand_over(lost)

    async def _pending(self, client: Redis) -> list[Delivery]:
        known = set(self._known)
        found: list[Delivery] = []
        after: bytes = b"0"
        while rows := await self._rows(client, after, _PAGE):
            after = rows[-1][0]
            read = self._reading.deliveries(rows, time.monotonic())
            found += [one for one in read if one.entry not in known and one.entry not in self._known]
        return found

    async def _rows(self, client: Any, after: str | bytes, count: int, block: int | None = None) -> list[Any]:
        blocking = () if block is None else ("BLOCK", block)
        reply = await client.connection_pool.call(
            "XREADGROUP",
            "GROUP",
            keys.INBOX_GROUP,
            self._worker,
            "COUNT",
            count,
            *blocking,
            "STREAMS",
            self._stream,
            after,
        )
        return reply[0][1] if reply else []

    async def _hand_over(self, deliveries: list[Delivery]) -> None:
        out_of_line = [delivery for delivery in deliveries if delivery.input_bytes]
        if out_of_line:
            await self._fetch(out_of_line)
        self._deliver(deliveries)

    async def _fetch(self, deliveries: list[Delivery]) -> None:
        """Get inputs that lie out of line. A delivery whose input is gone is left with an empty one."""
        index, redis = self._partition.index, self._partition.redis
        at = 0
        while at < len(deliveries):
            some: list[Delivery] = []
            total = 0
            while at < len(deliveries) and total < _BLOB_BYTES:
                some.append(deliveries[at])
                total += deliveries[at].input_bytes
                at += 1
            names = [keys.blob(index, delivery.request_id.decode(), "in") for delivery in some]
            texts = await self._partition.patiently(partial(redis.mget, names))
            for delivery, text in zip(some, texts, strict=True):
                delivery.input = text or b""

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
            except (RedisError, OSError):
                self._log.debug("closing a broken connection failed")


def _no_inbox(error: ResponseError) -> bool:
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))
