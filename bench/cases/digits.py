"""The digits model behind the coordinator, and the same model in a loop."""

from __future__ import annotations

from typing import Final

from figures import Figure, Scale, costs
from machine import machine, per_job

_BATCH: Final = 16
"""As the example's handler has it."""


def digits(scale: Scale) -> list[Figure]:
    repeat = str(max(1, round(2 * scale.jobs)))
    with machine() as m:
        m.dispatcher()
        m.worker("coordinator_examples.digits:worker")
        alone = m.tool("model.py", "loop", str(_BATCH), repeat)
        before = m.cpu()
        through = m.tool("model.py", "through", str(_BATCH), repeat)
        us = {**per_job(before, m.cpu(), through["jobs"]), "producer": through["cpu"] / through["jobs"] * 1e6}
    rates = [told["jobs"] / told["seconds"] for told in (through, alone)]
    return [
        Figure("digits through the coordinator", rates[0], "jobs/s"),
        Figure("digits in a loop", rates[1], "jobs/s"),
        Figure("digits, coordinator / loop", rates[0] / rates[1], "", ">=0.9"),
        Figure("digits in a loop, CPU", alone["cpu"] / alone["jobs"] * 1e6, "us/job"),
        *costs("digits", us),
    ]
