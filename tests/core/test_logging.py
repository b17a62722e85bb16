"""Logs: JSON lines for machines, plain lines for people, on standard error. In a process of its own: set up once."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

CODE = """
from coordinator.core import logging
from coordinator.core.settings import Settings
logging.configure(Settings(log_format={log_format!r}, log_level="info"), "tester")
log = logging.get("duty").bind(partition=0)
log.debug("not shown")
log.info("done", jobs=3, path=object)
try:
    raise ValueError("why")
except ValueError:
    log.exception("went wrong")
"""


@pytest.mark.parametrize("log_format", ["json", "auto", "console"])
def test_one_event_is_one_line(log_format: str) -> None:
    command = [sys.executable, "-c", CODE.format(log_format=log_format)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    lines = done.stderr.splitlines()
    if log_format == "console":
        assert b"done" in lines[0]
        assert b"jobs=3" in lines[0]
        return
    first, second = (msgspec.json.decode(line) for line in lines)
    assert first["event"] == "done"
    assert (first["duty"], first["process"], first["partition"], first["jobs"]) == ("duty", "tester", 0, 3)
    assert first["level"] == "info"
    assert first["timestamp"].endswith("Z")
    assert "ValueError: why" in second["exception"]


def test_in_a_program_of_somebody_else_s_nothing_goes_to_its_output() -> None:
    code = "from coordinator.core import logging; logging.get('duty').warning('trouble', jobs=3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    assert b"trouble" in done.stderr
    assert b"jobs=3" in done.stderr
