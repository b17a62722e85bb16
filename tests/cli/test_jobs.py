"""`submit`, `result` and `cancel`."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli.conftest import Cli
from client.hand import Hand


async def test_submit_prints_the_id_that_result_takes(cli: Cli, hand: Hand) -> None:
    submitted = await cli("submit", hand.model, '{"x": [1, 2]}')
    assert submitted.code == 0
    request_id = submitted.out.strip()
    (job,) = await hand.take()
    assert (job.request_id, job.input) == (request_id, {"x": [1, 2]})
    await hand.finish(job, {"y": 3})
    shown = await cli("result", request_id)
    assert shown.code == 0
    for word in (request_id, "succeeded", hand.name, '{"y":3}'):
        assert word in shown.out
    document = (await cli("result", request_id, "--json")).document
    assert document["status"] == "succeeded"
    assert document["output"] == {"y": 3}


async def test_submit_and_wait(cli: Cli, hand: Hand) -> None:
    submitting = asyncio.create_task(cli("submit", hand.model, "1", "--wait", "30", "--json"))
    await hand.finish(await hand.next(), "one")
    submitted = await submitting
    assert submitted.code == 0
    assert submitted.document["output"] == "one"


async def test_a_wait_that_ends_without_success_fails(cli: Cli, hand: Hand) -> None:
    submitted = await cli("submit", hand.model, "1", "--wait", "0.05", "--json")
    assert submitted.code == 1
    assert submitted.document["status"] == "queued"
    await hand.fail(await hand.next(), "broken")
    shown = await cli("result", submitted.document["request_id"], "--wait", "10")
    assert shown.code == 1
    assert "exception: broken" in shown.out


async def test_a_line_of_stdin_is_a_job(cli: Cli, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    _feed(monkeypatch, b'1\n\n"two"\n{"three": 3}\n')
    submitted = await cli("submit", hand.model, "-")
    assert submitted.code == 0
    taken = await hand.take()
    assert [job.input for job in taken] == [1, "two", {"three": 3}]
    assert submitted.out.split() == [job.request_id for job in taken]


async def test_many_and_wait(cli: Cli, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    _feed(monkeypatch, b"1\n2\n")
    submitting = asyncio.create_task(cli("submit", hand.model, "-", "--wait", "30", "--json"))
    for _ in range(2):
        job = await hand.next()
        await hand.finish(job, job.input * 10)
    submitted = await submitting
    assert submitted.code == 0
    assert [result["output"] for result in submitted.document["results"]] == [10, 20]


async def test_many_that_are_refused_fail(cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _feed(monkeypatch, b"1\n2\n")
    submitted = await cli("submit", model, "-")
    assert submitted.code == 1
    assert submitted.out == ""
    assert submitted.err.count("has ever registered") == 2


async def test_a_file(cli: Cli, hand: Hand, tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text('{\n  "pretty": true\n}\n')
    assert (await cli("submit", hand.model, f"@{path}")).code == 0
    assert (await hand.next()).input == {"pretty": True}


async def test_options(cli: Cli, hand: Hand) -> None:
    options = ("--priority", "high", "--timeout", "5", "--max-attempts", "2", "--deadline", "60", "--key", "cli-1")
    first = await cli("submit", hand.model, "1", *options)
    again = await cli("submit", hand.model, "1", *options)
    assert first.out == again.out
    head = (await hand.next()).head
    for part in (b'"priority":"high"', b'"timeout_ms":5000', b'"max_attempts":2', b'"deadline_at":'):
        assert part in head


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("m", "{not json"), "A text needs quotes"),
        (("m", "@/nowhere/at/all"), "can't read /nowhere/at/all"),
        (("two words", "1"), "model name"),
        (("m", "1", "--priority", "urgent"), "priority"),
        (("m", "1", "--wait", "-1"), "--wait"),
    ],
)
async def test_what_cannot_be_right_is_one_line(cli: Cli, arguments: tuple[str, ...], why: str) -> None:
    submitted = await cli("submit", *arguments)
    assert submitted.code == 2
    assert submitted.out == ""
    assert submitted.err.startswith("coordinator: ")
    assert submitted.err.count("\n") == 1
    assert why in submitted.err


async def test_an_unknown_model_or_job_is_one_line(cli: Cli, model: str) -> None:
    for arguments in (("submit", model, "1"), ("result", "nonsense"), ("cancel", "nonsense")):
        run = await cli(*arguments)
        assert (run.code, run.out, run.err.count("\n")) == (1, "", 1)


async def test_cancel(cli: Cli, hand: Hand) -> None:
    request_id = (await cli("submit", hand.model, "1", "--json")).document["request_id"]
    assert (await cli("cancel", request_id, "--json")).document == {"cancelled": [request_id]}
    assert await hand.take() == []
    assert (await cli("result", request_id, "--json")).document["status"] == "cancelled"


def _feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
