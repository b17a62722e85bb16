"""The API as a process: how it starts and stops, what it makes of a lost Redis, and of raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from harness.api import ApiProcess, api_process, problem
from harness.field import Field, until
from harness.redis import RedisServer

from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings

JOB = {"model": "m", "input": 1}


@contextlib.asynccontextmanager
async def client_of(api: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=await api.listening(), trust_env=False, timeout=100, limits=limits) as client:
        yield client


@contextlib.asynccontextmanager
async def field_on(redis: RedisServer) -> AsyncIterator[Field]:
    """The partition on a server of the test's own, with the worker `w` for the model `m`."""
    async with await Connections.open(Settings(redis_url=redis.url()), client_name="tests") as connections:
        field = Field(connections.partitions[0])
        await field.register()
        yield field


async def _metric(client: httpx.AsyncClient, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("trouble", ["wrong password", "other schema", "other partitions", "no URL"])
async def test_a_redis_that_is_not_ours_ends_the_start(own_redis: RedisServer, trouble: str) -> None:
    url = own_redis.url()
    with own_redis.client() as redis:
        match trouble:
            case "wrong password":
                redis.config_set("requirepass", "right")
                url = url.replace("redis://", "redis://:wrong@")
            case "other schema":
                redis.hset(keys.META, "schema", "999")
            case "other partitions":
                redis.hset(keys.META, mapping={"schema": str(keys.SCHEMA_VERSION), "partitions": "16"})
            case _:
                url = "nonsense"
        async with api_process(redis_url=url) as api:
            assert await api.ended() == 2
    (line,) = api.log
    assert line["level"] == "error"
    assert "\n" not in line["error"]
    assert {
        "wrong password": "password",
        "other schema": "schema 999",
        "other partitions": "partitions 16",
        "no URL": "URL",
    }[trouble] in line["error"]


async def test_a_taken_port_ends_the_start(redis_url: str) -> None:
    async with api_process(redis_url=redis_url) as first:
        port = (await first.listening()).rpartition(":")[2]
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coordinator.api", "--port", port),
            env={**os.environ, "COORDINATOR_REDIS_URL": redis_url},
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await second.communicate()
        assert second.returncode != 0
        assert b"address already in use" in told


async def test_it_starts_before_redis_does(own_redis: RedisServer) -> None:
    own_redis.stop()
    async with api_process(redis_url=own_redis.url()) as api, client_of(api) as client:
        problem(await client.post("/inference", json=JOB), 503, "redis-unavailable")
        own_redis.start()

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready)
        assert (await client.post("/register", json={"models": ["m"]})).status_code == 201
        assert (await client.post("/inference", json=JOB)).status_code == 202
        assert await api.stop() == 0


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_redis_goes_and_comes_back(own_redis: RedisServer, how: str) -> None:
    async with api_process(redis_url=own_redis.url()) as api, client_of(api) as client:
        async with field_on(own_redis) as field:
            before = await field.given()
            wait = asyncio.create_task(client.get(f"/result/{before.request_id}", params={"wait": 60}))

            async def waits() -> bool:
                return bool(await field.redis.hexists(keys.waiters(0), before.request_id))

            await until(waits)
            # All that was accepted is on disk, also of a server that is killed.
            await field.redis.execute_command("BGREWRITEAOF")
            await until(lambda: _rewritten(field))
        own_redis.kill() if how == "killed" else own_redis.pause()
        answers = await asyncio.gather(*(client.post("/inference", json=JOB) for _ in range(50)))
        for answer in answers:
            problem(answer, 503, "redis-unavailable")
        for path in ("/workers", "/models", "/dead", f"/result/{before.request_id}"):
            problem(await client.get(path), 503, "redis-unavailable")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
        own_redis.start() if how == "killed" else own_redis.resume()

        async def accepted() -> bool:
            return (await client.post("/inference", json=JOB)).status_code == 202

        await until(accepted)
        async with field_on(own_redis) as field:
            # The waiter has outlived it all, and is told by the new subscription or the next look.
            await field.complete(before.done("at last"))
            assert (await wait).json()["output"] == "at last"
        assert await api.stop() == 0


async def _rewritten(field: Field) -> bool:
    info = await field.redis.info("persistence")
    return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


async def test_a_stop_lets_waiting_requests_go(redis_url: str, field: Field) -> None:
    async with api_process(redis_url=redis_url) as api, client_of(api) as client:
        ids = await field.put_many(20)
        waits = [asyncio.create_task(client.get(f"/result/{i}", params={"wait": 60})) for i in ids[:10]]
        waits += [asyncio.create_task(client.post("/inference", params={"wait": 60}, json=JOB)) for _ in range(10)]

        async def waiting() -> bool:
            return await _metric(client, "coordinator_waits") == 20

        await until(waiting)
        assert await api.stop() == 0
        answers = [await wait for wait in waits]
        assert {answer.json()["status"] for answer in answers} == {"queued"}
        assert [answer.status_code for answer in answers] == [200] * 10 + [202] * 10
        with pytest.raises(httpx.TransportError):
            await client.get("/livez")
        assert [line["event"] for line in api.log] == ["listening", "stopping"]


async def test_a_stop_under_load_loses_no_answer(redis_url: str, field: Field) -> None:
    async with api_process(redis_url=redis_url) as api, client_of(api) as client:
        accepted: list[str] = []

        async def submit() -> None:
            while True:
                try:
                    response = await client.post("/inference", json=JOB)
                except httpx.TransportError:
                    return
                assert response.status_code == 202
                accepted.append(response.json()["request_id"])

        producers = [asyncio.create_task(submit()) for _ in range(8)]
        while len(accepted) < 200:
            await asyncio.sleep(0)
        assert await api.stop() == 0
        await asyncio.gather(*producers)
        waiting = set(await field.lane())
        assert set(accepted) <= waiting
        assert len(waiting) <= len(accepted) + len(producers)


async def test_a_job_is_waited_for_at_another_process(redis_url: str, field: Field) -> None:
    async with (
        api_process(redis_url=redis_url) as first,
        api_process(redis_url=redis_url) as second,
        client_of(first) as one,
        client_of(second) as other,
    ):
        request_id = (await one.post("/inference", json=JOB)).json()["request_id"]
        waits = [
            asyncio.create_task(client.get(f"/result/{request_id}", params={"wait": 60})) for client in (one, other)
        ]
        for client in (one, other):

            async def waiting(client: httpx.AsyncClient = client) -> bool:
                return await _metric(client, "coordinator_waits") == 1

            await until(waiting)
        await field.assign()
        (taken,) = await field.take()
        await field.complete(taken.done("both hear it"))
        assert {(await wait).json()["output"] for wait in waits} == {"both hear it"}


async def test_who_hangs_up_waits_no_more(redis_url: str, field: Field) -> None:
    request_id = await field.put()
    async with api_process(redis_url=redis_url) as api, client_of(api) as client:

        async def waits(count: int) -> bool:
            return await _metric(client, "coordinator_waits") == count

        raw = [await _dial(api) for _ in range(5)]
        for _, writer in raw:
            writer.write(f"GET /result/{request_id}?wait=60 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await until(lambda: waits(5))
        for _, writer in raw:
            writer.close()
            await writer.wait_closed()
        await until(lambda: waits(0))


async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(redis_url: str, field: Field) -> None:
    async with api_process(redis_url=redis_url, max_body_bytes=1000) as api:
        reader, writer = await _dial(api)
        writer.write(b"POST /inference HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            writer.write(b"190\r\n" + b" " * 400 + b"\r\n")
        # It has no end, and is answered.
        status, _, body = await _answer(reader)
        assert (status, b"/problems/too-large" in body) == (413, True)
        writer.close()


async def test_a_body_announced_too_large_is_refused_before_it_comes(redis_url: str, field: Field) -> None:
    async with api_process(redis_url=redis_url) as api:
        reader, writer = await _dial(api)
        writer.write(b"POST /inference HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999\r\n\r\n")
        status, _, body = await _answer(reader)
        assert (status, b"/problems/too-large" in body) == (413, True)
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status", "kind"),
    [
        (b"nonsense\r\n\r\n", 400, b"malformed-http"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400, b"malformed-http"),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000, 431, b"head-too-large"),
        (b"GET /livez?" + b"y" * 200_000, 431, b"head-too-large"),
    ],
    ids=["nonsense", "negative length", "large header", "large URL"],
)
async def test_what_is_no_http_is_answered_and_hung_up_on(
    redis_url: str, request_bytes: bytes, status: int, kind: bytes
) -> None:
    async with api_process(redis_url=redis_url) as api:
        reader, writer = await _dial(api)
        writer.write(request_bytes)
        answered, headers, body = await _answer(reader)
        assert answered == status
        assert b"application/problem+json" in headers
        assert kind in body
        writer.close()


async def _dial(api: ApiProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(await api.listening())
    assert url.port is not None
    return await asyncio.open_connection(url.host, url.port)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Status, headers and body of one response."""
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), head, await reader.readexactly(int(length[1]))


async def test_requests_that_come_at_once_are_answered_in_order(redis_url: str, field: Field) -> None:
    async with api_process(redis_url=redis_url) as api:
        reader, writer = await _dial(api)
        body = b'{"model":"m","input":1}'
        writer.write(
            b"HEAD /docs HTTP/1.1\r\nhost: x\r\n\r\n"
            b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
            b"DELETE /workers/w HTTP/1.1\r\nhost: x\r\n\r\n"
            b"POST /inference HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        # The answer to HEAD is a head alone.
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await _answer(reader))[::2] == (200, b'{"status":"alive"}')
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 ")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        assert (await _answer(reader))[0] == 202
        writer.close()
