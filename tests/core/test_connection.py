"""Connections and Partition: whose Redis this is, and what happens to a step while it is away."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
import uvloop
from harness.field import Field, until
from harness.proxy import DELAY, Proxy
from harness.redis import RedisServer
from redis.exceptions import ConnectionError as RedisConnectionError

from coordinator.core import dialing, keys, scripts, steps
from coordinator.core.connection import Connections, Partition
from coordinator.core.errors import InvalidInput, Misconfigured, NotFound, RedisUnavailable
from coordinator.core.settings import Settings


async def _open(settings: Settings) -> None:
    async with await Connections.open(settings, client_name="tests"):
        pass


async def test_a_new_redis_is_claimed(settings: Settings, field: Field) -> None:
    assert await field.redis.hgetall(keys.META) == {b"schema": b"1", b"partitions": b"1"}
    await _open(settings)


async def test_a_redis_with_another_schema_or_number_of_partitions_is_not_ours(
    settings: Settings, field: Field
) -> None:
    with pytest.raises(Misconfigured, match="partitions 1, but this process expects 2"):
        await _open(settings.model_copy(update={"partitions": 2}))
    await field.redis.hset(keys.META, "schema", "99")
    with pytest.raises(Misconfigured, match="schema 99"):
        await _open(settings)


async def test_a_wrong_password_is_misconfigured_at_once(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.config_set("requirepass", "secret")
    for login in ("", ":wrong@", "user:wrong@"):
        with pytest.raises(Misconfigured, match="does not let us in"):
            await _open(Settings(redis_url=f"redis://{login}127.0.0.1:{own_redis.port}/0"))
    await _open(Settings(redis_url=f"redis://:secret@127.0.0.1:{own_redis.port}/0"))


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(RedisUnavailable):
        await _open(Settings(redis_url="redis://127.0.0.1:1/0", redis_patience=0.1))


async def test_opening_can_wait_until_it_is_there(own_redis: RedisServer) -> None:
    own_redis.stop()
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.1)
    opening = asyncio.create_task(Connections.open(settings, client_name="tests", wait=60))
    await asyncio.to_thread(own_redis.start)
    await (await opening).close()


async def test_a_flushed_script_cache_is_filled_again(field: Field) -> None:
    await field.register()
    await field.put()
    await field.redis.script_flush()
    await field.put()
    assert (await field.assign()).moved == 2


async def test_a_step_goes_on_after_a_restart(own_redis: RedisServer) -> None:
    async with await Connections.open(Settings(redis_url=own_redis.url()), client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        job = await field.given()
        own_redis.stop()
        completing = asyncio.create_task(field.complete(job.done()))
        await asyncio.to_thread(own_redis.start)
        assert await completing == [1]


async def test_a_redis_that_hangs_is_unavailable(own_redis: RedisServer) -> None:
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.4)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        job = await field.submission()
        own_redis.pause()
        try:
            with pytest.raises(RedisUnavailable):
                await field.submit(job)
        finally:
            own_redis.resume()
        await field.submit(job)
        assert await field.lane() == [job.request_id]


async def test_no_reply_is_taken_for_another_ones_after_a_timeout(own_redis: RedisServer) -> None:
    """A step that was given up leaves a reply on its way; the connection must not be used again."""
    settings = Settings(redis_url=own_redis.url(), redis_patience=0.2)
    async with await Connections.open(settings, client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        own_redis.pause()
        try:
            with pytest.raises(RedisUnavailable):
                await steps.rouse(field.partition)
        finally:
            own_redis.resume()
        for _ in range(20):
            assert await steps.heartbeat(field.partition, "w", "1", lease_ms=1000) == "live"


@pytest.mark.parametrize("lost", [1, 2])
async def test_steps_are_safe_to_send_again(redis_server: RedisServer, settings: Settings, lost: int) -> None:
    """Every step is done by the server, its reply is lost, and it is sent again."""
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with await Connections.open(Settings(redis_url=url), client_name="proxied") as connections:
            field = Field(connections.partitions[0])
            for name in scripts.names():
                await field.redis.script_load(scripts.script(name).source)
            proxy.cut_replies(lost)
            assert await field.register()
            job = await field.given()
            proxy.cut_replies(lost)
            assert await field.complete(job.done()) == [2]
            job = await field.given()
            proxy.cut_replies(lost)
            assert await field.fail_one(job) == "stale"
            assert (await field.record(job.request_id)).attempts == 1
            proxy.cut_replies(lost)
            assert (await steps.cancel(field.partition, job.request_id)).outcome == "cancelled"
            dead = await field.buried()
            new_id = field.request_id(await field.now_ms())
            proxy.cut_replies(lost)
            assert await steps.retry_dead(field.partition, dead, new_id, lifetime_ms=60_000, retention_ms=1) == new_id
            proxy.cut_replies(lost)
            await field.assign()
            assert await field.inbox() == [new_id]
            await field.end_lease()
            proxy.cut_replies(lost)
            await field.reclaim()
            assert await field.lane("retry") == [new_id]
            await field.census()


async def test_an_id_of_another_deployment_names_nothing(connections: Connections) -> None:
    assert connections.of_request("0-1-aaaaaaaaaaaaaaaa") is connections.partitions[0]
    for text in ("1-1-aaaaaaaaaaaaaaaa", "nonsense"):
        with pytest.raises(NotFound):
            connections.of_request(text)


async def test_durability_that_nobody_confirms_is_not_accepted(field: Field) -> None:
    await field.register()
    job = await field.submission()
    stranger = await field.submission("nobody-serves-it")
    receipts = await steps.submit(
        field.partition,
        [job, stranger, job],
        lifetime_ms=60_000,
        retention_ms=1000,
        max_backlog=10,
        durability="replicated",
        confirm_seconds=0.01,
    )
    assert [receipt.outcome for receipt in receipts] == ["unconfirmed", "unknown", "unconfirmed"]


async def test_durability_that_the_server_can_not_tell_is_refused_clearly(field: Field) -> None:
    await field.register()
    job = await field.submission()
    with pytest.raises(InvalidInput, match="fsync"):
        await steps.submit(
            field.partition,
            [job],
            lifetime_ms=60_000,
            retention_ms=1000,
            max_backlog=10,
            durability="fsync",
            confirm_seconds=0.01,
        )
    assert await field.lane() == []


@pytest.mark.parametrize("ticks", range(12))
async def test_a_blocking_read_that_is_cancelled_ends(field: Field, ticks: int) -> None:
    """At whichever of its steps the cancellation comes: swallowed once, its process would not stop when told to."""
    client: Any = field.partition.blocking()
    await client.ping()
    task = asyncio.create_task(client.bzpopmin(["nothing"], timeout=60))
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=10)
    assert task in done
    assert task.cancelled()
    await client.aclose()


def test_a_line_that_was_cut_is_away_under_uvloop_as_well(settings: Settings) -> None:
    """uvloop says `RuntimeError` when something is written to a connection that was hung up."""

    async def use_it_after_it_was_cut() -> None:
        async with await Connections.open(settings, client_name="tests") as connections:
            blocking: Any = connections.partitions[0].blocking()
            connection = await blocking.connection_pool.get_connection()
            connection.hang_up()
            with pytest.raises(RedisConnectionError):
                await connection.send_command("PING")
            await blocking.connection_pool.release(connection)
            await blocking.ping()
            await blocking.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use_it_after_it_was_cut())


async def test_a_call_given_up_while_it_connects_leaves_its_answers_to_nobody(redis_server: RedisServer) -> None:
    """Else whoever uses the connection next is told what the server said to its introduction."""
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        partition = Connections.unchecked(Settings(redis_url=proxy.url), client_name="tests").partitions[0]
        pool: Any = partition.redis.connection_pool
        proxy.disturb(DELAY, 1.0, delay=0.3)
        for call in (pool.call, partition.redis.execute_command):
            hits = proxy.hits
            task = asyncio.create_task(call("PING"))
            await until(lambda seen=hits: _more(proxy, seen))
            task.cancel()
            await asyncio.wait((task,))
            assert await call("ECHO", "mine") == b"mine"
            await pool.drop()
        await partition.redis.aclose()


class _Moving:
    """A master that is replaced by another: the same server by another name."""

    def __init__(self, port: int) -> None:
        self.at = ("127.0.0.1", port)

    def client(self, _: str, name: str, timeout: float | None) -> Any:
        return dialing.client({"find": self.find}, name, timeout)

    async def find(self) -> tuple[str, int]:
        return self.at

    async def master(self, _: float) -> tuple[str, int]:
        return self.at

    def move(self) -> None:
        self.at = ("localhost", self.at[1])


async def test_after_a_failure_a_connection_that_was_in_use_is_not_used_again(redis_server: RedisServer) -> None:
    """It may lead to a master that hung and was replaced: it answers again, and has nothing of what came since."""

    async def fails_once(failures: list[Exception]) -> None:
        if failures:
            raise failures.pop()

    source = _Moving(redis_server.port)
    partition = Partition(0, source, client_name="tests")
    pool: Any = partition.redis.connection_pool
    in_use = await pool.get_connection()
    source.move()
    await partition.patiently(partial(fails_once, [RedisConnectionError("it hangs")]))
    await pool.release(in_use)
    again = await pool.get_connection()
    assert again.host == "localhost"
    await pool.release(again)
    await partition.redis.aclose()


async def test_a_master_that_was_replaced_is_left_though_nothing_failed(redis_server: RedisServer) -> None:
    source = _Moving(redis_server.port)
    partition = Partition(0, source, client_name="tests")
    blocking: Any = partition.blocking()
    pool: Any = partition.redis.connection_pool
    await partition.redis.ping()
    await partition.follow(source.at)
    used, in_use = await asyncio.gather(pool.get_connection(), pool.get_connection())
    await pool.release(used)
    reading = asyncio.create_task(blocking.bzpopmin(["nothing"], timeout=60))
    await until(lambda: _reads(blocking))
    source.move()
    await partition.follow(source.at)
    with pytest.raises(RedisConnectionError):
        await reading
    await pool.release(in_use)
    await asyncio.gather(*(partition.redis.ping() for _ in range(3)), blocking.ping())
    assert pool.leads_only_to(source.at)
    assert blocking.connection_pool.leads_only_to(source.at)
    await blocking.aclose()
    await partition.redis.aclose()


async def test_what_a_master_confirms_that_was_replaced_is_asked_of_the_new_one(redis_server: RedisServer) -> None:
    """It may still have a replica, and both will forget it."""
    source = _Moving(redis_server.port)
    partition = Partition(0, source, client_name="tests")
    await partition.redis.ping()
    source.move()
    await partition.run_confirmed(scripts.script("waiting"), ["m"], "replicated", 0.01)
    assert partition.redis.connection_pool.leads_only_to(source.at)
    await partition.redis.aclose()


async def _reads(client: Any) -> bool:
    """Whether its command was sent."""
    return any(connection.is_connected for connection in client.connection_pool._in_use_connections)


async def _more(proxy: Proxy, hits: int) -> bool:
    return proxy.hits > hits
