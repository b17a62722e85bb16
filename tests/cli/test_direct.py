"""`coordinator audit` and `coordinator doctor`, which talk to Redis itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
from harness.clusters import Node, standalone

from coordinator.cli.main import main
from coordinator.core import keys
from coordinator.core.connection import Connections
from coordinator.core.settings import Settings

Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(main, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def url_of(node: Node) -> str:
    return f"redis://{node.address}"


async def used(node: Node, partitions: int = 1) -> None:
    """Let a coordinator have been here."""
    settings = Settings(redis_url=url_of(node), partitions=partitions)
    async with await Connections.open(settings, client_name="test"):
        pass


async def test_an_audit_says_what_it_found_and_mends_it(tmp_path: Path, run: Run) -> None:
    async with standalone(tmp_path) as node:
        await used(node)
        code, out, _ = await run("audit", "--redis", url_of(node))
        assert (code, "nothing found" in out) == (0, True)
        await node.ask("ZADD", keys.delayed(0), 1, "1-1")
        code, out, _ = await run("audit", "--redis", url_of(node))
        assert code == 1
        assert "delay_without_parked" in out
        code, out, _ = await run("audit", "--repair", "--json", "--redis", url_of(node))
        assert code == 1
        (finding,) = orjson.loads(out)["findings"]
        assert finding["kind"] == "delay_without_parked"
        assert finding["mended"]
        assert finding["problem"]
        code, _, _ = await run("audit", "--redis", url_of(node))
        assert code == 0


async def test_an_audit_takes_the_partitions_from_redis(tmp_path: Path, run: Run) -> None:
    async with standalone(tmp_path) as node:
        await used(node, partitions=3)
        await node.ask("ZADD", keys.delayed(2), 1, "1-1")
        code, out, _ = await run("audit", "--json", "--redis", url_of(node))
        assert code == 1
        assert orjson.loads(out)["findings"][0]["partition"] == 2


async def test_an_audit_does_not_claim_a_redis_that_nobody_used(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standalone(tmp_path) as node:
        monkeypatch.setenv("COORDINATOR_REDIS_URL", url_of(node))
        code, _, err = await run("audit")
        assert code == 2
        assert "No coordinator has used this Redis" in err
        assert await node.ask("DBSIZE") == 0


async def test_a_doctor_says_what_to_do_and_fails_on_a_problem(tmp_path: Path, run: Run) -> None:
    async with standalone(tmp_path) as node:
        await used(node, partitions=2)
        code, out, _ = await run("doctor", "--redis", url_of(node))
        assert code == 0
        assert "appendonly" in out
        await node.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        code, out, _ = await run("doctor", "--json", "--redis", url_of(node))
        document = orjson.loads(out)
        assert (code, document["verdict"]) == (1, "problem")
        (bad,) = [check for check in document["checks"] if check["verdict"] == "problem"]
        assert bad["name"] == "eviction policy"
        assert "noeviction" in bad["advice"]


async def test_a_doctor_shows_no_password(tmp_path: Path, run: Run) -> None:
    code, out, err = await run("doctor", "--json", "--redis", "redis://user:secret@127.0.0.1:1")
    assert code == 1
    assert "secret" not in out + err
