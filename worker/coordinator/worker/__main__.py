"""`python -m coordinator.worker my_module:worker --coordinator URL`."""

from __future__ import annotations

import argparse
import os
import sys

from coordinator.core.errors import CoordinatorError, InvalidInput
from coordinator.worker.main import run_worker


def main() -> int:
    """Parse the command line, run the worker; a known trouble becomes one line and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m coordinator.worker", description="Run one worker process.")
    parser.add_argument("target", metavar="MODULE:WORKER")
    parser.add_argument(
        "--coordinator", metavar="URL", default=os.environ.get("COORDINATOR_URL", "http://127.0.0.1:8000")
    )
    parser.add_argument("--worker-id", help="its id; one that is alive is taken over (default: a new, unique one)")
    parser.add_argument("--grace", type=float, help="seconds to finish running jobs at the end")
    arguments = parser.parse_args()
    try:
        return run_worker(arguments.target, arguments.coordinator, arguments.worker_id, arguments.grace)
    except CoordinatorError as error:
        print(f"coordinator.worker: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 1


sys.exit(main())
