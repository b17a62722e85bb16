"""Python imports this at its start, where its folder is on PYTHONPATH: it lets a test make this host's wall clock jump.

The file named by CLOCK_JUMP holds the seconds by which `time.time` and `time.time_ns` are off; no file, no jump. Read
again on each call, so that the clock jumps in processes that run.
"""

import os
import time

_path = os.environ.get("CLOCK_JUMP", "")
_time, _time_ns = time.time, time.time_ns


def _jump() -> float:
    try:
        with open(_path) as file:
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


if _path:
    time.time = lambda: _time() + _jump()
    time.time_ns = lambda: _time_ns() + int(_jump() * 1e9)
