"""docs/guarantees.md names its proofs: each of them is there, and what it says of the settings is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.core.settings import Settings

HERE = Path(__file__).parent
TEXT = (HERE.parent / "docs" / "guarantees.md").read_text()
TESTS = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in HERE.rglob("test_*.py"))))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", TEXT))))
def test_each_proof_is_there(name: str) -> None:
    assert name in TESTS


def test_the_defaults_are_as_told() -> None:
    told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([\d., ]+) \|", TEXT, re.MULTILINE)
    assert len(told) > 10
    for names, values in told:
        for name, value in zip(re.findall(r"`(\w+)`", names), values.split(","), strict=True):
            assert Settings.model_fields[name].default == float(value), name
