"""What a running worker promises, on real Redis with a real dispatcher."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import msgspec
import pytest
from harness import field
from harness.redis import RedisServer
from harness.stage import Stage, until

from coordinator.core import keys, steps
from coordinator.core.errors import RedisUnavailable
from coordinator.worker import Fail, Retry, Worker, job
from coordinator.worker.lease import Superseded
from coordinator.worker.watch import StuckHandlers


async def test_sync_async_and_batch_handlers(stage: Stage) -> None:
    worker = Worker()

    @worker.model("sync", capacity=4)
    def sync(value: int) -> int:
        return value + 1

    @worker.model("async", capacity=4)
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + 2

    @worker.model("batch", capacity=2, batch=8, batch_wait=0.005)
    def batch(values: list[int]) -> list[int]:
        return [value + 3 for value in values]

    @worker.model("async-batch", batch=8)
    async def async_batch(values: list[int]) -> list[int]:
        return [value + 4 for value in values]

    async with stage.running(worker):
        for plus, model in enumerate(("sync", "async", "batch", "async-batch"), 1):
            ids = await stage.submit_many(model, list(range(100)))
            assert [await stage.output(request_id) for request_id in ids] == [i + plus for i in range(100)]


async def test_calls_at_once_are_as_many_as_the_capacity(stage: Stage) -> None:
    worker = Worker()
    running, most, together = 0, 0, threading.Barrier(3)

    @worker.model("m", capacity=3)
    def handler(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        together.wait(10)  # passes only if three run at once
        running -= 1

    async with stage.running(worker):
        for request_id in await stage.submit_many("m", list(range(12))):
            await stage.output(request_id)
    assert most == 3


async def test_a_batch_waits_a_little_for_more_to_come(stage: Stage) -> None:
    worker = Worker()
    sizes: list[int] = []

    @worker.model("m", batch=4, batch_wait=1)
    def handler(values: list[int]) -> list[int]:
        sizes.append(len(values))
        return values

    async with stage.running(worker):
        ids = await stage.submit_many("m", [1, 2, 3])
        ids.append(await stage.submit("m", 4))
        for request_id in ids:
            await stage.output(request_id)
    assert sizes == [4]


async def test_a_batch_that_does_not_fill_goes_when_the_wait_is_over(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m", batch=4, batch_wait=0.01)
    def handler(values: list[int]) -> list[int]:
        return [len(values)] * len(values)

    async with stage.running(worker):
        assert await stage.run("m", 1) == 1


async def test_retry_and_exceptions_are_tried_again_up_to_the_limit(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(limit: int) -> int:
        if job.attempt < limit:
            raise Retry(after=0.01) if job.attempt % 2 else ValueError("not yet")
        return job.attempt

    async with stage.running(worker):
        assert await stage.run("m", 3) == 3
        failed = await stage.failed("m", 10, max_attempts=2)
        assert failed.attempts == 2
        assert failed.dead_letter
        assert failed.error is not None
        assert failed.error.message == "ValueError: not yet"


async def test_fail_and_bad_input_and_bad_output_are_not_tried_again(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> Any:
        if value:
            raise Fail("never", type="odd")
        return object()

    async with stage.running(worker):
        for value, kind in ((1, "odd"), ("x", "bad_input"), (0, "bad_output")):
            failed = await stage.failed("m", value)
            assert failed.attempts == 1
            assert failed.error is not None
            assert failed.error.type == kind


async def test_sys_exit_in_a_handler_is_only_that_job_s_end(stage: Stage) -> None:
    worker = Worker()

    @worker.model("sync")
    def sync(value: int) -> int:
        raise SystemExit(value)

    @worker.model("async")
    async def later(value: int) -> int:
        raise KeyboardInterrupt

    @worker.model("good")
    def good(value: int) -> int:
        return value

    async with stage.running(worker):
        await stage.failed("sync", 1, max_attempts=1)
        await stage.failed("async", 1, max_attempts=1)
        assert await stage.run("good", 1) == 1


async def test_large_inputs_and_outputs_travel_out_of_line(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m", capacity=4)
    def handler(text: str) -> str:
        return text.upper()

    async with stage.running(worker):
        ids = await stage.submit_many("m", ["x" * 300_000, "y" * 3000, "z"])
        assert [len(await stage.output(request_id)) for request_id in ids] == [300_000, 3000, 1]


async def test_an_input_that_is_gone_fails_its_job(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(text: str) -> str:
        return text

    async with stage.running(worker):
        pass
    request_id = await stage.submit("m", "x" * 3000, max_attempts=2)
    await stage.field.redis.delete(keys.blob(0, request_id, "in"))
    async with stage.running(worker):
        result = await stage.result(request_id)
    assert result.error is not None
    assert (result.error.type, result.attempts) == ("input_lost", 2)
    await stage.field.redis.delete(keys.dead(0))
    await stage.field.redis.delete(keys.dead_index(0))


async def test_an_input_that_was_not_seen_once_is_looked_for_again(stage: Stage) -> None:
    """In the midst of a failover it may be looked for in the wrong place."""
    worker = Worker()

    @worker.model("m")
    def handler(text: str) -> int:
        return len(text)

    async with stage.running(worker):
        pass
    request_id = await stage.submit("m", "x" * 3000, max_attempts=100)
    blob = keys.blob(0, request_id, "in")
    kept = await stage.field.redis.get(blob)
    await stage.field.redis.delete(blob)

    async def is_tried_again() -> bool:
        return (await stage.field.record(request_id)).status == "retrying"

    async with stage.running(worker):
        await field.until(is_tried_again)
        await stage.field.redis.set(blob, kept)
        assert await stage.output(request_id) == 3000


class _Untellable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


@pytest.mark.parametrize(
    "error",
    [
        Fail("a name of a file", detail="\udcff"),
        Fail("an object", detail={"not": "text"}),  # type: ignore[arg-type]
        Fail(7, type=8),  # type: ignore[arg-type]
        _Untellable(),
    ],
    ids=["surrogate", "dict", "numbers", "untellable"],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_whatever_a_handler_raises_the_others_keep_their_outcomes(
    stage: Stage, error: Exception, is_async: bool
) -> None:
    worker = Worker()
    runs: list[int] = []

    def handler(value: int) -> int:
        runs.append(value)
        if value == 2:
            raise error
        raise Fail("no luck")

    async def slow(value: int) -> int:
        return handler(value)

    worker.model("m", capacity=3)(slow if is_async else handler)
    async with stage.running(worker) as runtime:
        ids = [await stage.submit("m", value, max_attempts=1) for value in (1, 2, 3)]
        results = [await stage.result(request_id) for request_id in ids]
        await until(lambda: not runtime.services[0].busy and not runtime.services[0].outstanding)
    assert [(result.status, result.attempts) for result in results] == [("failed", 1)] * 3
    assert sorted(runs) == [1, 2, 3]
    for request_id in ids:
        await steps.remove_dead(stage.field.partition, request_id)


async def test_an_output_with_line_ends_is_told_as_one_line(stage: Stage) -> None:
    """Whoever waits is told a line per job; a second line would be taken for another job's record."""
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> Any:
        if value:
            return {"a": msgspec.Raw(b"1\n0-0-forged {}")}
        return msgspec.Raw(b'{\n  "a": [1,\r\n 2]\n}')

    async with stage.running(worker):
        assert await stage.output(await stage.submit("m", 0)) == {"a": [1, 2]}
        forged = await stage.result(await stage.submit("m", 1))
    assert forged.error is not None
    assert forged.error.type == "bad_output"
    await steps.remove_dead(stage.field.partition, forged.request_id)


async def test_async_handlers_are_stopped_at_their_limit(stage: Stage) -> None:
    worker = Worker()
    stopped = asyncio.Event()

    @worker.model("m", timeout=0.1)
    async def handler(_: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with stage.running(worker):
        failed = await stage.failed("m", 1, max_attempts=1)
        assert failed.error is not None
        assert failed.error.type == "timeout"
        await asyncio.wait_for(stopped.wait(), 10)


async def test_a_job_s_own_limit_goes_before_the_model_s(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m", timeout=600)
    async def handler(_: int) -> None:
        await asyncio.Event().wait()

    async with stage.running(worker):
        failed = await stage.failed("m", 1, max_attempts=1, timeout_ms=100)
        assert failed.error is not None
        assert "0.1 seconds" in failed.error.message


async def test_a_sync_handler_that_never_returns_loses_its_slot_not_the_worker(stage: Stage) -> None:
    worker = Worker()
    release = threading.Event()

    @worker.model("m", capacity=1, timeout=0.2)
    def handler(hang: bool) -> str:
        if hang:
            release.wait()
        return "good"

    async with stage.running(worker) as runtime:
        hanging = await stage.submit("m", True, max_attempts=1)
        good = await stage.submit("m", False)
        failed = await stage.result(hanging)
        assert failed.error is not None
        assert failed.error.type == "timeout"
        assert await stage.output(good) == "good"
        (service,) = runtime.services
        assert service.runner.stuck == 1
        release.set()
        await until(lambda: service.runner.stuck == 0)


async def test_too_many_handlers_that_never_return_end_the_worker(stage: Stage) -> None:
    worker = Worker()
    release = threading.Event()

    @worker.model("m", capacity=1, timeout=0.05)
    def handler(_: int) -> None:
        release.wait(60)

    _, task = await stage.start(worker)
    ids = await stage.submit_many("m", list(range(5)))
    with pytest.raises(StuckHandlers, match="never came back"):
        await asyncio.wait_for(task, 20)
    release.set()
    # Nothing is lost: another worker takes them all.
    async with stage.running(worker):
        for request_id in ids:
            assert (await stage.result(request_id)).final


async def test_a_running_async_job_is_cancelled(stage: Stage) -> None:
    worker = Worker()
    started, stopped = asyncio.Event(), asyncio.Event()

    @worker.model("m", timeout=600)
    async def handler(_: int) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with stage.running(worker) as runtime:
        request_id = await stage.submit("m", 1)
        await asyncio.wait_for(started.wait(), 10)
        await steps.cancel(stage.field.partition, request_id)
        await asyncio.wait_for(stopped.wait(), 10)
        assert (await stage.result(request_id)).status == "cancelled"
        (service,) = runtime.services
        assert service.stale == 1
        await until(lambda: service.in_work == 0)


async def test_a_cancelled_job_s_place_in_a_batch_is_ignored(stage: Stage) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()

    @worker.model("m", batch=2, batch_wait=1)
    def handler(values: list[int]) -> list[int]:
        started.set()
        release.wait(10)
        return values

    async with stage.running(worker) as runtime:
        first, second = await stage.submit_many("m", [1, 2])
        await until(started.is_set)
        await steps.cancel(stage.field.partition, first)
        await until(lambda: runtime.services[0].stale == 1)
        release.set()
        assert await stage.output(second) == 2
        assert (await stage.result(first)).status == "cancelled"


async def test_an_outcome_that_comes_too_late_is_refused_and_counted(stage: Stage) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()

    @worker.model("m")
    def handler(value: int) -> int:
        started.set()
        release.wait(10)
        return value

    async with stage.running(worker) as runtime:
        request_id = await stage.submit("m", 1)
        await until(started.is_set)
        await steps.cancel(stage.field.partition, request_id)
        release.set()
        await until(lambda: runtime.services[0].stale == 1)
        assert (await stage.result(request_id)).status == "cancelled"
        assert await stage.run("m", 2) == 2


async def test_a_deadline_that_passed_is_not_started(stage: Stage) -> None:
    worker = Worker()
    ran: list[int] = []

    # The second job is delivered at once, but the call waits until after its deadline for a third that never comes.
    @worker.model("m", batch=3, batch_wait=0.1)
    def handler(values: list[int]) -> list[int]:
        ran.extend(values)
        return values

    async with stage.running(worker):
        first = await stage.submit("m", 1)
        late = await stage.submit("m", 2, deadline_ms=50)
        assert (await stage.result(late)).status == "expired"
        await stage.output(first)
    assert ran == [1]


async def test_jobs_that_were_read_too_early_do_not_wait_for_a_long_call(stage: Stage) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()

    @worker.model("m", capacity=1, batch=8)
    def handler(values: list[int]) -> list[int]:
        started.set()
        release.wait(10)
        return [job.batch[0].attempt] * len(values)

    async with stage.running(worker, worker_id="w"):
        first = await stage.submit("m", 1)
        await until(started.is_set)
        # The read that was under way when the call began gets this one; it goes back, to be taken by whoever is free.
        second = await stage.submit("m", 2)
        inbox = keys.inbox(0, "w", "m")
        redis = stage.field.redis
        async with asyncio.timeout(10):
            while (await redis.xpending(inbox, "worker"))["pending"] != 1 or await redis.xlen(inbox) != 2:
                await asyncio.sleep(0.01)
        release.set()
        assert [await stage.output(first), await stage.output(second)] == [1, 1]


async def test_a_drain_finishes_what_runs_and_hands_back_the_rest(stage: Stage) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()

    @worker.model("m", capacity=1, prefetch=8)
    def handler(value: int) -> int:
        started.set()
        release.wait(10)
        return job.attempt

    async with stage.running(worker) as runtime:
        ids = await stage.submit_many("m", list(range(6)))
        await until(started.is_set)
        runtime.stop()
        await _lane_holds(stage, 5)
        release.set()
        finished = [await stage.waiting.result(request_id, 0.5) for request_id in ids]
    assert sorted(result.status for result in finished) == ["queued"] * 5 + ["succeeded"]
    assert {result.attempts for result in finished} == {0, 1}
    assert await stage.field.redis.exists(keys.worker(0, "w")) == 0
    async with stage.running(worker):
        assert [await stage.output(request_id) for request_id in ids] == [1] * 6


async def test_what_does_not_finish_within_the_grace_is_handed_back_without_an_attempt(stage: Stage) -> None:
    worker = Worker()
    started = asyncio.Event()
    forever = [True]

    @worker.model("m", timeout=600)
    async def handler(value: int) -> int:
        started.set()
        if forever[0]:
            await asyncio.Event().wait()
        return job.attempt

    async with stage.running(worker, grace=0.05) as runtime:
        request_id = await stage.submit("m", 1)
        await asyncio.wait_for(started.wait(), 10)
        runtime.stop()
    assert (await stage.waiting.result(request_id)).status == "queued"
    forever[0] = False
    async with stage.running(worker):
        assert await stage.output(request_id) == 1


async def test_a_second_stop_does_not_wait(stage: Stage) -> None:
    worker = Worker()
    started, release = threading.Event(), threading.Event()

    @worker.model("m", timeout=600)
    def handler(value: int) -> int:
        started.set()
        release.wait(60)
        return value

    async with stage.running(worker, grace=600) as runtime:
        request_id = await stage.submit("m", 1)
        await until(started.is_set)
        runtime.stop()
        runtime.stop()
    assert (await stage.waiting.result(request_id)).status == "queued"
    release.set()


async def test_a_flushed_redis_is_registered_in_again(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> int:
        return value

    async with stage.running(worker, worker_id="w") as runtime:
        assert await stage.run("m", 1) == 1
        await stage.field.redis.flushdb()
        await until(lambda: stage.registrar.calls > 1)
        assert await stage.run("m", 2) == 2
        assert runtime.lease.heart_pid
        assert await stage.field.redis.exists(keys.worker(0, "w"))


async def test_another_life_of_the_id_supersedes_this_one(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> int:
        return value

    _, first = await stage.start(worker, worker_id="w")
    async with stage.running(worker, worker_id="w"):
        with pytest.raises(Superseded, match="'w'"):
            await asyncio.wait_for(first, 20)
        assert await stage.run("m", 1) == 1


async def test_another_life_of_the_id_that_finds_work_supersedes_this_one_as_well(stage: Stage) -> None:
    """Its inbox is removed then, and newer Redis tells the blocked reader; that is no reason to register again."""
    worker = Worker()
    started, release = asyncio.Event(), asyncio.Event()

    @worker.model("m", capacity=2)
    async def handler(value: int) -> int:
        started.set()
        await release.wait()
        return value

    _, first = await stage.start(worker, worker_id="w")
    request_id = await stage.submit("m", 1)
    await started.wait()
    calls = stage.registrar.calls
    async with stage.running(worker, worker_id="w"):
        with pytest.raises(Superseded, match="'w'"):
            await asyncio.wait_for(first, 20)
        release.set()
        assert await stage.output(request_id) == 1
        assert stage.registrar.calls == calls + 1


async def test_the_lease_is_kept_while_a_handler_holds_up_the_event_loop(
    stage: Stage, redis_server: RedisServer
) -> None:
    worker = Worker()

    @worker.model("m", timeout=60)
    async def handler(_: int) -> int:
        # Nothing else in this process runs until the lease has been renewed for longer than it lasts.
        with redis_server.client() as redis:
            first = redis.zscore(keys.workers(0), "w")
            while redis.zscore(keys.workers(0), "w") < first + 1200 * stage.settings.lease_seconds:
                assert redis.time()
        return job.attempt

    async with stage.running(worker, worker_id="w"):
        pass
    request_id = await stage.submit("m", 1)
    async with stage.running(worker, worker_id="w") as runtime:
        heart = runtime.lease.heart_pid
        while (await _patient_output(stage, request_id)) is None:
            pass
        assert await _patient_output(stage, request_id) == 1
        assert runtime.lease.heart_pid == heart


async def _patient_output(stage: Stage, request_id: str) -> Any:
    """The output; None if the test's own event loop was held up meanwhile."""
    try:
        return await stage.output(request_id)
    except RedisUnavailable:
        return None


async def test_a_heart_that_dies_is_replaced(stage: Stage) -> None:
    worker = Worker()

    @worker.model("m")
    def handler(value: int) -> int:
        return value

    async with stage.running(worker) as runtime:
        first = runtime.lease.heart_pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: runtime.lease.heart_pid not in (0, first))
        assert await stage.run("m", 1) == 1


async def test_suspects_run_alone_and_in_their_order(stage: Stage) -> None:
    worker = Worker()
    running: set[int] = set()
    together: dict[int, set[int]] = {}
    order: list[int] = []
    release = threading.Event()

    def note(value: int) -> int:
        running.add(value)
        order.append(value)
        for one in running:
            together.setdefault(one, set()).update(running)
        if value == 1:
            release.wait(10)
        running.discard(value)
        return value

    worker.model("a", capacity=8)(note)
    worker.model("b", capacity=8)(note)

    async with stage.running(worker, worker_id="w"):
        first = await stage.submit("a", 1)
        await until(lambda: 1 in running)
        redis = stage.field.redis
        ids = []
        for value, model in ((2, "a"), (3, "b"), (4, "a")):
            ids.append(await _suspect(stage, model, value))
        ids.append(await stage.submit("b", 5))
        # All are delivered, and none of them starts while 1 runs.
        async with asyncio.timeout(10):
            while (await redis.xpending(keys.inbox(0, "w", "a"), "worker"))["pending"] < 3 or (
                await redis.xpending(keys.inbox(0, "w", "b"), "worker")
            )["pending"] < 2:
                await asyncio.sleep(0.01)
        assert running == {1}
        release.set()
        for request_id in (first, *ids):
            await stage.output(request_id)
    assert order == [1, 2, 3, 4, 5]
    assert all(seen == {value} for value, seen in together.items())


async def _suspect(stage: Stage, model: str, value: int) -> str:
    """A job on which a worker has died: what reclaim makes of it."""
    field = stage.field
    now_ms = await field.now_ms()
    request_id = field.request_id(now_ms)
    document = b'{"submitted_at":%d,"model":"%b","input":%b}' % (now_ms, model.encode(), msgspec.json.encode(value))
    entry = await field.redis.xadd(
        keys.inbox(0, "w", model), {"id": request_id, "attempt": 2, "crashed": "dead", "job": document}
    )
    bucket = keys.results(0, int(request_id.split("-")[1]))
    record = b'{"status":"assigned","at":"inbox:w:%b %b","attempts":1,%b}' % (
        model.encode(),
        entry,
        document[1 : document.index(b',"input"')],
    )
    await field.redis.hset(bucket, request_id, record)
    return request_id


async def _lane_holds(stage: Stage, count: int) -> None:
    async with asyncio.timeout(10):
        while await stage.field.redis.xlen(keys.jobs(0, "m", "retry")) != count:
            await asyncio.sleep(0.01)
