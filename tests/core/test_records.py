"""Records: what the steps write is what the structs read."""

from __future__ import annotations

import msgspec
import pytest
from harness.field import Field

from coordinator.core import keys, records
from coordinator.core.records import Job, decode_job, encode


def test_a_job_leaves_out_what_was_not_asked_for_and_ends_with_its_input() -> None:
    job = Job(1, "m", input=msgspec.Raw(b'{"x": 1}'))
    assert encode(job) == b'{"submitted_at":1,"model":"m","input":{"x": 1}}'
    full = Job(1, "m", 2, "high", 3, 4, "k", 0, msgspec.Raw(b"0"))
    assert encode(full).endswith(b',"input":0}')
    assert decode_job(encode(full)) == full


@pytest.mark.parametrize("data", [b"null", b"0", b'"a"', b'[1, {"input": 2}]', b'{"input":",\\"input\\":"}', b" [ ] "])
async def test_an_input_goes_through_byte_by_byte(both: Field, data: bytes) -> None:
    await both.register()
    await both.put(data=data)
    await both.assign()
    ((_, fields),) = await both.redis.xrange(keys.inbox(0, "w", "m"))
    assert bytes(decode_job(fields[b"job"]).input) == data.strip()
    assert fields[b"job"].endswith(b',"input":%b}' % data)
    (job,) = await both.take()
    assert job.input == msgspec.json.decode(data)
    assert await both.complete(job.done()) == [1]


async def test_an_entry_can_be_read_by_a_person(both: Field) -> None:
    await both.register()
    request_id = await both.put(lane="low", head='"timeout_ms":5,"max_attempts":2', ttl=60_000)
    ((_, fields),) = await both.redis.xrange(keys.jobs(0, "m", "low"))
    assert list(fields) == [b"id", b"attempt", b"job"]
    assert fields[b"id"].decode() == request_id
    job = decode_job(fields[b"job"])
    assert (job.model, job.priority, job.timeout_ms, job.max_attempts) == ("m", "low", 5, 2)
    assert job.deadline_at == job.submitted_at + 60_000


def test_the_final_states_are_those_of_the_lifecycle() -> None:
    assert {"succeeded", "failed", "cancelled", "expired"} == records.FINAL
