"""Under overload memory stays bounded, refusals say when to come back, and what was accepted is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from faults.overload import CAPABLE, JOB_SECONDS, MOST_HELD, Scene
from harness.redis import RedisServer

from coordinator.core.errors import BacklogFull

pytestmark = pytest.mark.faults
_BYTES_PER_JOB = 2000


@pytest.fixture
async def scene(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "system", own_redis)
    await scene.ready()
    yield scene
    scene.close()


async def test_five_times_what_can_be_done(scene: Scene) -> None:
    flood = await scene.flood(5 * CAPABLE, 8.0)
    assert flood.sent > MOST_HELD
    assert flood.refusals
    for _, refusal in flood.refusals:
        assert isinstance(refusal, BacklogFull)
        assert refusal.retry_after > 0
    assert flood.most_held <= MOST_HELD
    assert flood.bytes_most - flood.bytes_before < MOST_HELD * _BYTES_PER_JOB + len(flood.accepted) * _BYTES_PER_JOB
    assert {result.status for result in flood.results.values()} == {"succeeded"}
    assert min(flood.latencies) >= JOB_SECONDS
