"""The README's programs run as they stand there: its worker serves, and each of its producers gets its results."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.redis import RedisServer
from harness.system import SECONDS, ApiDaemon, System, joined

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
WORKER, *PRODUCERS = PROGRAMS
SAYS = {
    "with Client(": ["6.0"],
    "AsyncClient(": ["6.0", "3.0", "7.0"],
    "Producer.open(": ["0.0"],
}
"""How each producer's output begins; what `submit_many` prints differs each time."""

pytestmark = pytest.mark.end_to_end


@pytest.fixture
async def api(own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiDaemon]:
    """A system that serves the README's worker."""
    (tmp_path / "my_module.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)
    with System(tmp_path / "system", own_redis.url()) as system:
        api = system.api()
        system.dispatcher()
        system.worker("mine", api.url, target="my_module:worker")
        async with api.client() as client:
            await joined(client, "mine")
        yield api


async def test_its_producers_get_their_results(api: ApiDaemon, own_redis: RedisServer, tmp_path: Path) -> None:
    assert len(PRODUCERS) == len(SAYS)
    for number, (program, (names, begins)) in enumerate(zip(PRODUCERS, SAYS.items(), strict=True)):
        assert names in program
        here = program.replace("http://127.0.0.1:8000", api.url).replace("redis://127.0.0.1:6379/0", own_redis.url())
        assert here != program
        path = tmp_path / f"producer_{number}.py"
        path.write_text(here)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(path),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert out.decode().split()[: len(begins)] == begins
        if names == "with Client(":
            _, *answers = out.decode().split()
            assert [float(text) for text in answers[2:]] == [2.0 * n for n in range(100)]
