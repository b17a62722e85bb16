"""Waiting: told within one message, whichever process waits; and nothing is missed when a connection breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from harness.field import Field, until
from harness.proxy import Proxy
from harness.redis import RedisServer

from coordinator.core import keys, steps, waiting
from coordinator.core.connection import Connections
from coordinator.core.errors import NotFound, RedisUnavailable
from coordinator.core.settings import Settings
from coordinator.core.waiting import Waiting

LONG = 60.0


@contextlib.asynccontextmanager
async def _process(settings: Settings) -> AsyncIterator[Waiting]:
    """What an API process has: connections of its own, and the listener running."""
    async with await Connections.open(settings, client_name="waiting") as connections:
        waiting = Waiting(connections)
        task = asyncio.create_task(waiting.run())
        try:
            yield waiting
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _waited_for(field: Field, request_id: str, processes: int = 1) -> None:
    async def waited() -> bool:
        found: bytes | None = await field.redis.hget(keys.waiters(0), request_id)
        return found is not None and found.count(b"@") == processes

    await until(waited)


async def _subscribed(field: Field, *processes: Waiting) -> None:
    async def subscribed() -> bool:
        answer = await field.redis.pubsub_numsub(*[process.channel for process in processes])
        return all(count == 1 for _, count in answer)

    await until(subscribed)


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No re-check by time: what arrives was told."""
    monkeypatch.setattr(waiting, "_RECHECK_SECONDS", 3600.0)


@pytest.mark.usefixtures("never_again")
async def test_all_processes_that_wait_are_told(field: Field, settings: Settings) -> None:
    await field.register()
    job = await field.given()
    async with _process(settings) as one, _process(settings) as other:
        await _subscribed(field, one, other)
        calls = [asyncio.create_task(process.result(job.request_id, LONG)) for process in (one, one, other)]
        await _waited_for(field, job.request_id, 2)
        await field.complete(job.done({"label": 7}))
        for result in await asyncio.gather(*calls):
            assert (result.status, result.worker_id, result.attempts) == ("succeeded", "w", 1)
            assert isinstance(result.output, msgspec.Raw)
            assert msgspec.json.decode(result.output) == {"label": 7}


@pytest.mark.usefixtures("never_again")
async def test_an_output_out_of_line_comes_along(field: Field, settings: Settings) -> None:
    await field.register()
    job = await field.given()
    async with _process(settings) as process:
        await _subscribed(field, process)
        call = asyncio.create_task(process.result(job.request_id, LONG))
        await _waited_for(field, job.request_id)
        await field.complete(job.done("x" * 5000, b"o"))
        result = await call
        assert isinstance(result.output, msgspec.Raw)
        assert msgspec.json.decode(result.output) == "x" * 5000


async def test_what_is_final_is_said_at_once(field: Field, settings: Settings) -> None:
    await field.register()
    request_id = await field.buried()
    async with _process(settings) as process:
        result = await process.result(request_id, LONG)
        assert result.final
        assert result.error is not None
        assert result.error.message == 'no "luck"'


async def test_when_the_wait_is_over_the_state_of_then_is_said(field: Field, settings: Settings) -> None:
    await field.register()
    request_id = await field.put()
    async with _process(settings) as process:
        call = asyncio.create_task(process.result(request_id, 0.2))
        await _waited_for(field, request_id)
        await field.assign()
        assert (await call).status == "assigned"
        assert (await process.result(request_id)).status == "assigned"
        await field.take()
        assert (await process.result(request_id, -1)).status == "running"


async def test_an_unknown_id(field: Field, settings: Settings) -> None:
    async with _process(settings) as process:
        for wait in (0.0, LONG):
            with pytest.raises(NotFound):
                await process.result(field.request_id(await field.now_ms()), wait)
            with pytest.raises(NotFound):
                await process.result("nonsense", wait)


@pytest.mark.usefixtures("never_again")
async def test_what_was_missed_while_the_connection_was_down_is_found_after_it(
    field: Field, redis_server: RedisServer
) -> None:
    await field.register()
    job = await field.given()
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        async with _process(Settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0")) as process:
            await _subscribed(field, process)
            call = asyncio.create_task(process.result(job.request_id, LONG))
            await _waited_for(field, job.request_id)
            # The notification itself is what gets lost, with its connection.
            proxy.cut_replies(1)
            await field.complete(job.done())
            assert (await call).status == "succeeded"
        assert proxy.hits == 1


async def test_those_who_wait_are_looked_up_again_about_once_a_second(field: Field, settings: Settings) -> None:
    """Somebody removed our name, so nobody tells us."""
    await field.register()
    job = await field.given()
    async with _process(settings) as process:
        call = asyncio.create_task(process.result(job.request_id, LONG))
        await _waited_for(field, job.request_id)
        await field.redis.delete(keys.waiters(0))
        await field.complete(job.done())
        assert (await call).status == "succeeded"


async def test_it_lives_through_a_restart_of_redis(own_redis: RedisServer) -> None:
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.3)
    async with await Connections.open(settings, client_name="tests") as connections, _process(settings) as process:
        field = Field(connections.partitions[0])
        await field.register()
        job = await field.given()
        call = asyncio.create_task(process.result(job.request_id, LONG))
        await _waited_for(field, job.request_id)
        own_redis.stop()
        with pytest.raises(RedisUnavailable):
            await process.result(job.request_id)
        await asyncio.to_thread(own_redis.start)
        await field.complete(job.done())
        assert (await call).status == "succeeded"


async def test_a_waiter_that_gives_up_leaves_the_others_waiting(field: Field, settings: Settings) -> None:
    await field.register()
    job = await field.given()
    async with _process(settings) as process:
        calls = [asyncio.create_task(process.result(job.request_id, LONG)) for _ in range(3)]
        await _waited_for(field, job.request_id)
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        await steps.cancel(field.partition, job.request_id)
        assert [(await call).status for call in calls[1:]] == ["cancelled", "cancelled"]
