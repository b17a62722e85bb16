"""The faults: each is a function that does its harm, lets it last for some time that the dice decide, and undoes it."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from faults.lab import APIS, DISPATCHERS, WORKERS, Lab
from harness.proxy import CUT_COMMAND, CUT_REPLY, DELAY, SILENCE

Fault = Callable[[Lab, random.Random], Awaitable[None]]
_HOUR: Final = 3600.0
_HOGS: Final = 6


async def _kill(lab: Lab, dice: random.Random, *names: str) -> None:
    name = dice.choice(names)
    lab.kill(name)
    # Sooner than a lease ends, or later.
    await asyncio.sleep(dice.choice((0.0, dice.uniform(0.0, 3.0))))
    lab.start(name)


async def kill_worker(lab: Lab, dice: random.Random) -> None:
    await _kill(lab, dice, *WORKERS)


async def kill_dispatcher(lab: Lab, dice: random.Random) -> None:
    await _kill(lab, dice, *DISPATCHERS)


async def kill_api(lab: Lab, dice: random.Random) -> None:
    await _kill(lab, dice, *APIS)


async def kill_everything(lab: Lab, dice: random.Random) -> None:
    """All processes but Redis, at the same time."""
    names = (*APIS, *DISPATCHERS, *WORKERS)
    for name in names:
        lab.kill(name)
    await asyncio.sleep(dice.uniform(0.0, 2.0))
    for name in names:
        lab.start(name)


async def _pause(lab: Lab, dice: random.Random, *names: str) -> None:
    daemon = lab.daemon(dice.choice(names))
    daemon.pause()
    await asyncio.sleep(dice.uniform(1.8, 4.0))
    daemon.resume()


async def pause_worker(lab: Lab, dice: random.Random) -> None:
    """Past its lease: its jobs go to others, and it comes back."""
    await _pause(lab, dice, *WORKERS)


async def pause_dispatcher(lab: Lab, dice: random.Random) -> None:
    await _pause(lab, dice, *DISPATCHERS)


async def pause_api(lab: Lab, dice: random.Random) -> None:
    await _pause(lab, dice, *APIS)


async def _disturb(lab: Lab, dice: random.Random, kind: str, rate: float, seconds: float, delay: float = 0.0) -> None:
    """The connections of all processes, or those of one."""
    everyone = [*lab.proxies.values()]
    hit = everyone if dice.random() < 0.5 else [dice.choice(everyone)]
    for proxy in hit:
        proxy.disturb(kind, rate, delay=delay)
    await asyncio.sleep(seconds)
    for proxy in hit:
        proxy.calm()


async def cut_commands(lab: Lab, dice: random.Random) -> None:
    await _disturb(lab, dice, CUT_COMMAND, dice.choice((0.02, 0.2)), dice.uniform(1.0, 2.5))


async def cut_replies(lab: Lab, dice: random.Random) -> None:
    await _disturb(lab, dice, CUT_REPLY, dice.choice((0.02, 0.2)), dice.uniform(1.0, 2.5))


async def delay_replies(lab: Lab, dice: random.Random) -> None:
    """By less than a step's patience, or by more."""
    delay = dice.choice((0.1, 0.6, 2.0))
    await _disturb(lab, dice, DELAY, dice.choice((0.1, 0.5)), dice.uniform(1.0, 3.0), delay)


async def half_open(lab: Lab, dice: random.Random) -> None:
    await _disturb(lab, dice, SILENCE, 0.05, dice.uniform(1.0, 4.0))


async def cut_off(lab: Lab, dice: random.Random) -> None:
    """One process from Redis, without a word."""
    proxy = lab.proxies[dice.choice((*WORKERS, *DISPATCHERS, *APIS))]
    proxy.disturb(SILENCE, 1.0)
    await asyncio.sleep(dice.uniform(2.0, 4.0))
    proxy.calm()


async def kill_redis(lab: Lab, dice: random.Random) -> None:
    lab.server.kill()
    await asyncio.sleep(dice.uniform(0.0, 2.0))
    await asyncio.to_thread(lab.server.start)


async def pause_redis(lab: Lab, dice: random.Random) -> None:
    """For longer than any time-out of a lease, a command or a blocking read."""
    lab.server.pause()
    await asyncio.sleep(dice.uniform(5.5, 7.0))
    lab.server.resume()


async def forget_scripts(lab: Lab, dice: random.Random) -> None:
    for _ in range(dice.randrange(1, 10)):
        lab.admin("SCRIPT", "FLUSH")
        await asyncio.sleep(dice.uniform(0.0, 0.2))


async def fill_disk(lab: Lab, dice: random.Random) -> None:
    """The append-only file can't grow, until it can again. Writes are refused meanwhile."""
    # With `always` Redis ends itself when it can't write: that is the same as killing it.
    lab.admin("CONFIG", "SET", "appendfsync", "everysec")
    files = [path for path in Path(lab.server.folder).rglob("*.aof") if path.is_file()]
    limit = max(path.stat().st_size for path in files) + dice.randrange(20_000)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(lab.server.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    await asyncio.sleep(dice.uniform(2.0, 4.0))
    resource.prlimit(lab.server.pid, resource.RLIMIT_FSIZE, unlimited)
    while lab.admin("INFO", "persistence")["aof_last_write_status"] != "ok":
        await asyncio.sleep(0.05)
    lab.admin("CONFIG", "SET", "appendfsync", "always")


async def fill_memory(lab: Lab, dice: random.Random) -> None:
    """Redis is at its memory limit: nothing new is taken, what is there goes on."""
    used = int(lab.admin("INFO", "memory")["used_memory"])
    lab.admin("CONFIG", "SET", "maxmemory", int(used * dice.choice((0.9, 1.02))))
    await asyncio.sleep(dice.uniform(1.5, 3.0))
    lab.admin("CONFIG", "SET", "maxmemory", 0)


async def jump_clock(lab: Lab, dice: random.Random) -> None:
    """The wall clock of all our processes jumps by an hour; one of them starts with the wrong time."""
    lab.clock_jump.write_text(str(dice.choice((-_HOUR, _HOUR))))
    name = dice.choice((*APIS, *DISPATCHERS, *WORKERS))
    lab.kill(name)
    lab.start(name)
    await asyncio.sleep(dice.uniform(1.5, 3.0))
    lab.clock_jump.write_text("0")


async def starve_worker(lab: Lab, dice: random.Random) -> None:
    """A worker, and its heart, share a processor with many that never rest."""
    daemon = lab.daemon(dice.choice(WORKERS))
    all_of_them = os.sched_getaffinity(0)
    one = {dice.choice(sorted(all_of_them))}
    tasks = [int(task.name) for task in Path(f"/proc/{daemon.pid}/task").iterdir()] if daemon.alive else []
    for task in tasks:
        os.sched_setaffinity(task, one)
    spin = f"import os\nos.sched_setaffinity(0, {one})\nwhile True: pass"
    hogs = [subprocess.Popen([sys.executable, "-S", "-c", spin]) for _ in range(_HOGS)]
    await asyncio.sleep(dice.uniform(1.5, 3.0))
    for hog in hogs:
        hog.kill()
        hog.wait()
    for task in tasks:
        try:
            os.sched_setaffinity(task, all_of_them)
        except ProcessLookupError:
            continue


async def replace_worker(lab: Lab, dice: random.Random) -> None:
    """Stop a worker in order, and start it again at once under the same id."""
    name = dice.choice(WORKERS)
    await lab.stop(name)
    lab.start(name)


async def double_worker(lab: Lab, dice: random.Random) -> None:
    """Two processes under one id, each started anew whenever it ends: each takes the id from the other.

    Until the older one hears of it they read one inbox, and may both run what they find there.
    """
    name = dice.choice(WORKERS)
    daemon = lab.daemon(name)
    twin = daemon.twin(lab.system.folder / f"{name}-twin.log")
    ends = asyncio.get_running_loop().time() + dice.uniform(2.0, 5.0)
    while asyncio.get_running_loop().time() < ends:
        if not twin.alive:
            twin.start()
        lab.history.share_an_id |= {twin.pid, daemon.pid}
        await asyncio.sleep(0.05)
    twin.kill()


async def restart_all(lab: Lab, dice: random.Random) -> None:
    """Every process in turn, as for a new release."""
    names = [*APIS, *DISPATCHERS, *WORKERS]
    dice.shuffle(names)
    for name in names:
        await lab.stop(name)
        lab.start(name)
        await asyncio.sleep(0.5)


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        kill_worker,
        pause_worker,
        cut_replies,
        kill_redis,
        kill_dispatcher,
        cut_off,
        kill_api,
        forget_scripts,
        half_open,
        fill_memory,
        delay_replies,
        starve_worker,
        jump_clock,
        fill_disk,
        pause_dispatcher,
        cut_commands,
        replace_worker,
        double_worker,
        pause_api,
        kill_everything,
        restart_all,
        pause_redis,
    )
}
