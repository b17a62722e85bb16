"""`workers`, `models` and `dead`: what an operator sees and does; and how commands fail."""

from __future__ import annotations

import pytest
from cli.conftest import Cli
from client.hand import Hand


async def test_workers(cli: Cli, hand: Hand) -> None:
    await cli("submit", hand.model, "1")
    await hand.take()
    shown = await cli("workers", "--model", hand.model)
    assert shown.code == 0
    for word in (hand.name, "live", hand.model):
        assert word in shown.out
    (worker,) = (await cli("workers", "--model", hand.model, "--json")).document["workers"]
    assert worker["worker_id"] == hand.name
    assert worker["models"][hand.model]["outstanding"] == 1


async def test_workers_of_a_state(cli: Cli, hand: Hand) -> None:
    lost = await cli("workers", "--model", hand.model, "--state", "lost")
    assert (lost.code, lost.out.strip()) == (0, "No workers.")
    wrong = await cli("workers", "--state", "asleep")
    assert (wrong.code, wrong.out) == (2, "")
    assert "state" in wrong.err


async def test_models(cli: Cli, hand: Hand) -> None:
    await cli("submit", hand.model, "1", "--priority", "low")
    assert hand.model in (await cli("models")).out
    model = (await cli("models", "--json")).document["models"][hand.model]
    assert model["workers"] == 1
    assert model["backlog"]["low"] == 1
    assert model["oldest_wait_seconds"] >= 0


async def test_dead_letters(cli: Cli, hand: Hand) -> None:
    for _ in range(2):
        await cli("submit", hand.model, "1")
    for job in await hand.take():
        await hand.fail(job, "it broke")
    listed = await cli("dead", "list", "--model", hand.model)
    assert listed.out.count("it broke") == 2
    letters = (await cli("dead", "list", "--model", hand.model, "--json")).document["dead"]
    one, two = [letter["request_id"] for letter in letters]

    (retried,) = (await cli("dead", "retry", one, "--json")).document["retried"]
    assert retried["retry_of"] == one
    assert [job.request_id for job in await hand.take()] == [retried["request_id"]]

    removed = await cli("dead", "remove", two)
    assert (removed.code, two in removed.out) == (0, True)
    assert (await cli("dead", "list", "--model", hand.model)).out.strip() == "No dead letters."
    again = await cli("dead", "remove", two)
    assert (again.code, again.out, again.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    "command", [("workers",), ("models",), ("dead", "list"), ("result", "x"), ("submit", "m", "1")]
)
async def test_nobody_at_the_address(cli: Cli, command: tuple[str, ...], free_port: int) -> None:
    run = await cli(*command, "--coordinator", f"http://127.0.0.1:{free_port}")
    assert (run.code, run.out, run.err.count("\n")) == (1, "", 1)
    assert "coordinator up" in run.err


@pytest.mark.parametrize("command", [("frobnicate",), ("dead",), ("workers", "--nonsense"), ("result",)])
async def test_usage_errors(cli: Cli, command: tuple[str, ...]) -> None:
    assert (await cli(*command)).code == 2


async def test_wrong_settings_are_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_PARTITIONS", "none")
    run = await cli("dispatcher")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "COORDINATOR_PARTITIONS" in run.err


async def test_version_and_help(cli: Cli) -> None:
    assert (await cli("--version")).out.strip()
    shown = await cli("--help")
    assert shown.code == 0
    for command in ("up", "api", "dispatcher", "worker", "demo", "submit", "result", "workers", "models", "dead"):
        assert command in shown.out
