"""Child processes: kept going, stopped in time, never left behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.cli.child import Child
from coordinator.cli.supervisor import StartFailed, Supervisor

_PATIENCE = 30.0

Make = Callable[..., Child]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a child that runs Python code."""

    def child(code: str, name: str = "child") -> Child:
        return Child(name, [sys.executable, "-c", code], {}, tmp_path / f"{name}.log")

    return child


SLEEP = "import time; print('up', flush=True); time.sleep(1000)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


async def _has_said(child: Child, text: str, times: int = 1) -> None:
    async with asyncio.timeout(_PATIENCE):
        while child.log.read_text().count(text) < times:
            await asyncio.sleep(0.01)


async def _stop(supervisor: Supervisor, *names: str, patience: float = _PATIENCE) -> None:
    await supervisor.stop(names or list(supervisor.children), patience, asyncio.Event())


async def test_a_child_that_dies_is_started_again(make: Make) -> None:
    supervisor, child = Supervisor(), make(SLEEP)
    await supervisor.start(child)
    supervisor.settled()
    await _has_said(child, "up")
    first = child.pid
    child.signal(signal.SIGKILL)
    await _has_said(child, "up", times=2)
    assert child.pid != first
    assert child.running
    await _stop(supervisor)
    assert not child.running


async def test_a_child_that_was_surrendered_stays_dead(make: Make) -> None:
    supervisor, child = Supervisor(), make(SLEEP)
    await supervisor.start(child)
    supervisor.settled()
    supervisor.surrender("child").signal(signal.SIGKILL)
    assert await child.ended() == -signal.SIGKILL
    await _stop(supervisor)
    assert not child.running


async def test_a_child_that_ends_before_all_are_up_says_why(make: Make) -> None:
    supervisor = Supervisor()
    await supervisor.start(make("import sys; sys.exit('no such model')", "worker-1"))
    with pytest.raises(StartFailed, match=r"worker-1 ended with exit code 1: no such model \(log: "):
        await asyncio.wait_for(supervisor.failed(), _PATIENCE)
    await _stop(supervisor)


async def test_last_words_of_a_log_in_json(make: Make) -> None:
    child = make("""print('{"event": "can\\'t go on", "error": "wrong password", "level": "error"}')""")
    await child.start()
    await child.ended()
    assert child.last_words() == "can't go on: wrong password"


async def test_who_does_not_stop_in_time_is_killed(make: Make) -> None:
    supervisor, child = Supervisor(), make(STUBBORN)
    await supervisor.start(child)
    await _has_said(child, "up")
    await _stop(supervisor, patience=0.05)
    assert await child.ended() == -signal.SIGKILL


async def test_in_a_hurry_nobody_is_waited_for(make: Make) -> None:
    supervisor, child = Supervisor(), make(STUBBORN)
    await supervisor.start(child)
    await _has_said(child, "up")
    hurry = asyncio.Event()
    stopping = asyncio.create_task(supervisor.stop(["child"], 3600, hurry))
    hurry.set()
    await asyncio.wait_for(stopping, _PATIENCE)
    assert await child.ended() == -signal.SIGKILL


async def test_even_a_stopped_child_stops(make: Make) -> None:
    supervisor, child = Supervisor(), make(SLEEP)
    await supervisor.start(child)
    await _has_said(child, "up")
    child.signal(signal.SIGSTOP)
    await _stop(supervisor)
    assert await child.ended() == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
async def test_no_child_outlives_its_parent(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from coordinator.cli.child import Child

async def main():
    child = Child("child", [sys.executable, "-c", {SLEEP!r}], {{}}, Path({str(tmp_path / "log")!r}))
    await child.start()
    print(child.pid, flush=True)
    await child.ended()

asyncio.run(main())
"""
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(_PATIENCE):
        while _runs(pid):
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
