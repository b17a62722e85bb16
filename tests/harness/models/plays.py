"""A worker whose jobs say themselves how they are to be played: quick or slow, well, badly or fatally.

An input is an object; all of it is optional:
    n          a number of the producer's own, given back
    seconds    how long it takes
    grip       for so many seconds, hold the interpreter's lock (GIL)
    fail       the attempts up to this one raise
    hang       the attempts up to this one never return
    crash      the attempts up to this one kill the worker
    doomed     raise `Fail`
    pad        that many bytes more in the output

From the environment: PLAYS_JOURNAL, the file to which every start and end is noted; PLAYS_WORKER, this worker's name;
PLAYS_CAPACITY; PLAYS_TIMEOUT (seconds); PLAYS_SECONDS, by how much this worker is slower than others;
PLAYS_PREFIX, put in front of the models' names.

The models: `play` runs in threads, `aplay` in the event loop, `batch` takes up to 8 jobs a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from coordinator.worker import Fail, Worker, job

_WORKER: Final = os.environ["PLAYS_WORKER"]
_SLOWER: Final = float(os.environ.get("PLAYS_SECONDS", "0"))
_JOURNAL: Final = os.open(os.environ["PLAYS_JOURNAL"], os.O_WRONLY | os.O_APPEND)
_PREFIX: Final = os.environ.get("PLAYS_PREFIX", "")
_CAPACITY: Final = int(os.environ.get("PLAYS_CAPACITY", "4"))
_TIMEOUT: Final = float(os.environ.get("PLAYS_TIMEOUT", "30"))
_counter: Final = itertools.count()
_libc: Final = ctypes.PyDLL(None)

worker: Final = Worker()


class Play(msgspec.Struct):
    """One input."""

    n: int = 0
    seconds: float = 0.0
    grip: float = 0.0
    fail: int = 0
    hang: int = 0
    crash: int = 0
    doomed: bool = False
    pad: int = 0
    stuffing: str = ""


def _note(event: str, token: str, request_id: str, attempt: int, n: int) -> None:
    line = {
        "at": time.monotonic(),
        "event": event,
        "id": request_id,
        "attempt": attempt,
        "worker": _WORKER,
        "pid": os.getpid(),
        "token": token,
        "n": n,
    }
    # One write: lines of several processes don't mix.
    os.write(_JOURNAL, msgspec.json.encode(line) + b"\n")


@contextlib.contextmanager
def _noted(play: Play, request_id: str, attempt: int) -> Iterator[dict[str, Any]]:
    token = f"{os.getpid()}-{next(_counter)}"
    _note("start", token, request_id, attempt, play.n)
    try:
        if attempt <= play.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if play.doomed:
            raise Fail("This job is doomed.", type="doomed")
        if attempt <= play.fail:
            raise RuntimeError(f"This job fails up to attempt {play.fail}.")
        yield {"n": play.n, "attempt": attempt, "worker": _WORKER, "token": token, "pad": "x" * play.pad}
    except BaseException:
        _note("raised", token, request_id, attempt, play.n)
        raise
    _note("done", token, request_id, attempt, play.n)


@worker.model(f"{_PREFIX}play", capacity=_CAPACITY, timeout=_TIMEOUT)
def play(play: Play) -> dict[str, Any]:
    with _noted(play, job.id, job.attempt) as result:
        if job.attempt <= play.hang:
            threading.Event().wait()
        if play.grip:
            # A call that, unlike time.sleep, does not let go of the lock.
            _libc.usleep(int(play.grip * 1e6))
        time.sleep(play.seconds + _SLOWER)
    return result


@worker.model(f"{_PREFIX}aplay", capacity=_CAPACITY, timeout=_TIMEOUT)
async def aplay(play: Play) -> dict[str, Any]:
    with _noted(play, job.id, job.attempt) as result:
        if job.attempt <= play.hang:
            await asyncio.Event().wait()
        if play.grip:
            _libc.usleep(int(play.grip * 1e6))
        await asyncio.sleep(play.seconds + _SLOWER)
    return result


@worker.model(f"{_PREFIX}batch", batch=8, batch_wait=0.01, timeout=_TIMEOUT)
def batch(plays: list[Play]) -> list[Any]:
    """The longest of them decides how long the call takes."""
    results: list[Any] = []
    for play, info in zip(plays, job.batch, strict=True):
        try:
            with _noted(play, info.id, info.attempt) as result:
                results.append(result)
        except Exception as error:
            results.append(error)
    time.sleep(max(play.seconds for play in plays) + _SLOWER)
    return results
