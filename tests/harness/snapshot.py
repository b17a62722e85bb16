"""Where every job is right now, read in one round trip: what the model-based test compares after each step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from coordinator.core import keys


class Seen(NamedTuple):
    """One job that is not over: the stream it lies in (without the base), its entry, and what the entry says."""

    stream: str
    entry: str
    attempt: int
    crashed: tuple[str, ...]
    read: bool
    """It was delivered to the worker whose inbox it lies in."""

    @property
    def at(self) -> str:
        return f"{self.stream} {self.entry}"


class Snapshot(NamedTuple):
    """All that a partition holds, by request id."""

    jobs: dict[str, Seen]
    """In the order of their streams, and within each stream in its order."""
    records: dict[str, bytes]
    dead: dict[str, str]
    """Dead letters, request id → entry."""
    delayed: dict[str, float]
    wake: set[str]
    starved: set[str]
    blobs: set[str]
    """Request ids of the inputs that lie out of line."""


async def snapshot(
    redis: Any, p: int, models: Iterable[str], workers: Iterable[str], buckets: Iterable[int]
) -> Snapshot:
    """Read it. Raises `AssertionError` when a job is in two places."""
    base = keys.base(p)
    lanes = [f"jobs:{model}:{lane}" for model in models for lane in keys.LANES]
    inboxes = [f"inbox:{worker}:{model}" for worker in workers for model in models]
    streams = [*lanes, *inboxes, "parked"]
    buckets = list(buckets)
    async with redis.pipeline(transaction=True) as pipe:
        for stream in streams:
            pipe.xrange(base + stream)
        for inbox in inboxes:
            pipe.execute_command("XPENDING", base + inbox, keys.INBOX_GROUP, "-", "+", 10_000, parse_detail=True)
        for bucket in buckets:
            pipe.hgetall(keys.results(p, bucket))
        pipe.hgetall(keys.dead_index(p))
        pipe.xrange(keys.dead(p))
        pipe.zrange(keys.delayed(p), 0, -1, withscores=True)
        pipe.zrange(keys.wake(p), 0, -1)
        pipe.smembers(keys.starved(p))
        pipe.keys(base.replace("{", "[{]").replace("}", "[}]") + "blob:*:in")
        replies = iter(await pipe.execute(raise_on_error=False))
    rows = {stream: next(replies) for stream in streams}
    pending = {inbox: _entries(next(replies)) for inbox in inboxes}
    jobs: dict[str, Seen] = {}
    for stream, entries in rows.items():
        for entry, fields in entries:
            request_id, crashed = fields[b"id"].decode(), fields.get(b"crashed", b"").decode()
            seen = Seen(
                stream,
                entry.decode(),
                int(fields[b"attempt"]),
                tuple(crashed.split(",")) if crashed else (),
                entry.decode() in pending.get(stream, ()),
            )
            assert request_id not in jobs, f"{request_id} is in two places: {jobs[request_id]} and {seen}"
            jobs[request_id] = seen
    records = {name.decode(): raw for _ in buckets for name, raw in next(replies).items()}
    dead = {name.decode(): entry.decode() for name, entry in next(replies).items()}
    letters = {fields[b"id"].decode(): entry.decode() for entry, fields in next(replies)}
    assert letters == dead
    delayed = {entry.decode(): due for entry, due in next(replies)}
    assert set(delayed) == {seen.entry for seen in jobs.values() if seen.stream == "parked"}
    wake = {raw.decode() for raw in next(replies)}
    starved = {raw.decode() for raw in next(replies)}
    blobs = {key.decode().split(":")[-2] for key in next(replies)}
    return Snapshot(jobs, records, dead, delayed, wake, starved, blobs)


def _entries(reply: Any) -> set[str]:
    if isinstance(reply, ResponseError):
        assert "NOGROUP" in str(reply), reply
        return set()
    return {row["message_id"].decode() for row in reply}
