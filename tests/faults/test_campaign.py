"""A campaign of injected faults. `make faults SECONDS=600 SEED=n` runs a longer one; the same seed, the same faults."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import campaign
from harness.redis import RedisServer

pytestmark = pytest.mark.faults


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that says nothing that is not on disk."""
    server = RedisServer(tmp_path / "redis", "--appendfsync", "always", aof=True)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(0)
async def test_nothing_accepted_is_lost_whatever_happens(
    durable_redis: RedisServer, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(request.config.getoption("--campaign-seconds"))
    chosen = request.config.getoption("--campaign-seed")
    seed = random.randrange(1_000_000) if chosen is None else int(chosen)
    named = request.config.getoption("--campaign-faults")
    names = [name.strip() for name in named.split(",")] if named else None
    report = await campaign.run(tmp_path / "system", durable_redis, seed=seed, seconds=seconds, names=names)
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.violations, str(report)
