"""What becomes of jobs in a system where nothing dies: each way to end, over HTTP, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time

import msgspec
import pytest
from harness.proxy import Proxy
from harness.redis import RedisServer
from harness.system import SECONDS, ApiDaemon, System, until

from coordinator.client import AsyncClient
from coordinator.core.errors import BacklogFull, InvalidState, UnknownModel

pytestmark = pytest.mark.end_to_end


async def test_jobs_come_back_with_their_outputs(client: AsyncClient, system: System) -> None:
    inputs = [{"n": n, "pad": 5000 if n % 10 == 0 else 0} for n in range(60)]
    for model in ("play", "aplay", "batch"):
        outputs = [result.value() async for result in client.map(model, inputs)]
        assert [(output["n"], len(output["pad"])) for output in outputs] == [(i["n"], i["pad"]) for i in inputs]
        assert {output["worker"] for output in outputs} == {"w1", "w2"}


async def test_a_job_that_fails_is_tried_again(client: AsyncClient, system: System) -> None:
    request_id = await client.submit("play", {"fail": 2})
    result = await client.wait(request_id, timeout=SECONDS)
    assert (result.status, result.attempts) == ("succeeded", 3)
    runs = system.starts(request_id)
    assert [run.attempt for run in runs] == [1, 2, 3]
    # Each wait is twice the one before, shortened at random by a half at the most.
    base = float(system.settings["backoff_base"])
    assert runs[1].at - runs[0].at >= base / 2
    assert runs[2].at - runs[1].at >= base


async def test_a_dead_letter_says_why_and_can_be_tried_again(client: AsyncClient, system: System) -> None:
    request_id = await client.submit("play", {"fail": 2, "stuffing": "x" * 5000}, max_attempts=2)
    result = await client.wait(request_id, timeout=SECONDS)
    assert (result.status, result.attempts) == ("failed", 2)
    assert result.error is not None
    assert "This job fails up to attempt 2." in result.error.message
    letter = msgspec.json.decode(await client.request("GET", f"/dead/{request_id}"))
    assert (letter["reason"], letter["attempts"]) == ("attempts", 2)
    retried = msgspec.json.decode(await client.request("POST", f"/dead/{request_id}/retry"))["request_id"]
    # A new job, so its attempts are counted anew: it fails again, and is a dead letter of its own.
    assert (await client.wait(retried, timeout=SECONDS)).status == "failed"
    assert (await client.result(request_id)).retried_as == retried
    assert len(system.starts(retried)) == 2


async def test_an_error_declared_final_is_not_tried_again(client: AsyncClient, system: System) -> None:
    request_id = await client.submit("play", {"doomed": True})
    result = await client.wait(request_id, timeout=SECONDS)
    assert (result.status, result.attempts, result.error and result.error.type) == ("failed", 1, "doomed")
    assert len(system.starts(request_id)) == 1


async def test_priorities_are_kept_while_work_waits(client: AsyncClient, system: System) -> None:
    blockers = [await client.submit("play", {"seconds": 1.0}) for _ in range(16)]
    low = [await client.submit("play", {"seconds": 0.1}, priority="low") for _ in range(12)]
    high = [await client.submit("play", {"seconds": 0.1}, priority="high") for _ in range(12)]
    for request_id in (*blockers, *low, *high):
        assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    # Two workers don't start things in one order; but they are given them in one.
    started = [statistics.mean(system.starts(i)[0].at for i in ids) for ids in (high, low)]
    assert started == sorted(started)


async def test_one_model_with_much_to_do_does_not_hold_up_another(client: AsyncClient, system: System) -> None:
    many = [await client.submit("play", {"seconds": 0.5}) for _ in range(60)]
    request_id = await client.submit("aplay", {})
    assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    statuses = [(await client.result(other)).status for other in many]
    assert "queued" in statuses
    for other in many:
        # Those that are over already don't mind.
        with contextlib.suppress(InvalidState):
            await client.cancel(other)
    for other in many:
        assert (await client.wait(other, timeout=SECONDS)).status in ("succeeded", "cancelled")


async def test_a_delayed_job_waits(client: AsyncClient, system: System) -> None:
    before = time.monotonic()
    request_id = await client.submit("play", {}, delay_seconds=0.5)
    assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    assert system.starts(request_id)[0].at - before >= 0.5


async def test_a_job_not_started_by_its_deadline_expires_and_never_runs(client: AsyncClient, system: System) -> None:
    blockers = [await client.submit("play", {"seconds": 1.5}) for _ in range(16)]
    late = await client.submit("play", {}, deadline_seconds=0.3)
    assert (await client.wait(late, timeout=SECONDS)).status == "expired"
    for request_id in blockers:
        assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    assert system.starts(late) == []


async def test_cancel_wherever_a_job_is(client: AsyncClient, system: System) -> None:
    delayed = await client.submit("aplay", {}, delay_seconds=600)
    running = await client.submit("aplay", {"seconds": 600})
    await until(lambda: system.starts(running), "it runs")
    # Capacity 4 and a window of 8 each: these fill both workers; the last ones stay in the lane.
    others = [await client.submit("aplay", {"seconds": 600}) for _ in range(20)]
    for request_id in (delayed, running, *others):
        await client.cancel(request_id)
        assert (await client.wait(request_id, timeout=SECONDS)).status == "cancelled"
    # The handlers are told, so that there is room again.
    request_id = await client.submit("aplay", {"n": 7})
    assert (await client.wait(request_id, timeout=SECONDS)).value()["n"] == 7
    await until(lambda: any(e.event == "raised" and e.id == running for e in system.executions()), "it is told")
    assert {e.event for e in system.executions() if e.id == running} == {"start", "raised"}
    with pytest.raises(InvalidState):
        await client.cancel(request_id)


async def test_a_cancelled_thread_can_not_be_stopped_but_its_outcome_is_ignored(
    client: AsyncClient, system: System
) -> None:
    request_id = await client.submit("play", {"seconds": 1.5})
    await until(lambda: system.starts(request_id), "it runs")
    await client.cancel(request_id)
    await until(lambda: any(e.event == "done" and e.id == request_id for e in system.executions()), "it has ended")
    assert (await client.result(request_id)).status == "cancelled"


async def test_a_resend_after_a_lost_reply_makes_no_second_job(
    system: System, server: RedisServer, client: AsyncClient
) -> None:
    """The reply is lost between Redis and the API; and the client asks again as well, under the same key."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        api = system.api("cut-api", redis_url=proxy.url)
        await api.ready()
        async with api.client() as cut:
            proxy.cut_replies(3)
            ids = {await cut.submit("play", {"n": 5}, idempotency_key="once") for _ in range(3)}
            assert proxy.hits == 3
        (request_id,) = ids
        assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
        assert await client.submit("play", {"n": 5}, idempotency_key="once") == request_id
        assert len(system.starts(request_id)) == 1
        await api.stop()


async def test_an_unknown_model_is_refused(client: AsyncClient) -> None:
    with pytest.raises(UnknownModel):
        await client.submit("nobody/knows-it", {})


async def test_the_backlog_has_a_limit_and_is_refused_with_a_time_to_come_back(
    client: AsyncClient, system: System
) -> None:
    api = system.api("small-api", max_backlog=5)
    await api.ready()
    async with api.client(patience=0.0) as small:
        answers = await asyncio.gather(
            *(small.submit("play", {"seconds": 0.3}) for _ in range(60)), return_exceptions=True
        )
    accepted = [answer for answer in answers if isinstance(answer, str)]
    refused = [answer for answer in answers if not isinstance(answer, str)]
    assert refused
    for error in refused:
        assert isinstance(error, BacklogFull)
        assert error.retry_after > 0
    # Two windows of 8 at the workers, five that wait, and some that were over meanwhile.
    assert len(accepted) >= 5
    for request_id in accepted:
        assert (await client.wait(request_id, timeout=SECONDS)).status == "succeeded"
    await api.stop()


async def test_a_handler_that_runs_for_several_leases_runs_once(client: AsyncClient, system: System) -> None:
    ids = [await client.submit(model, {"seconds": 9.0}) for model in ("play", "aplay")]
    for request_id in ids:
        assert (await client.wait(request_id, timeout=SECONDS)).attempts == 1
        assert len(system.starts(request_id)) == 1


async def test_a_handler_that_holds_the_interpreter_keeps_its_lease(client: AsyncClient, system: System) -> None:
    """In a thread, and in the event loop itself, for longer than the lease."""
    ids = [await client.submit(model, {"grip": 5.0}) for model in ("play", "aplay")]
    for request_id in ids:
        result = await client.wait(request_id, timeout=SECONDS)
        assert (result.status, result.attempts) == ("succeeded", 1)
        assert len(system.starts(request_id)) == 1


@pytest.mark.parametrize("model", ["play", "aplay"])
async def test_a_handler_that_hangs_is_given_up_and_its_job_tried_again(
    client: AsyncClient, system: System, model: str
) -> None:
    request_id = await client.submit(model, {"hang": 1}, timeout_seconds=0.5)
    result = await client.wait(request_id, timeout=SECONDS)
    assert (result.status, result.attempts) == ("succeeded", 2)
    assert len(system.starts(request_id)) == 2


async def test_the_api_that_is_told_the_outcome_need_not_be_the_one_that_was_told_the_job(
    client: AsyncClient, system: System
) -> None:
    other = system.api("other-api")
    await other.ready()
    async with other.client() as second:
        request_id = await client.submit("play", {"seconds": 0.5})
        results = await asyncio.gather(*(c.wait(request_id, timeout=SECONDS) for c in (client, second)))
        assert results[0] == results[1]
    assert isinstance(other, ApiDaemon)
    assert await other.stop() == 0
