"""`python -m coordinator.api [--host HOST] [--port PORT]`: run one API process."""

from __future__ import annotations

import argparse
import sys

from coordinator.api.server import run
from coordinator.core import logging
from coordinator.core.errors import Misconfigured
from coordinator.core.settings import Settings


def main() -> int:
    """Read the settings, from the environment and the command line, and serve; returns the exit code."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="coordinator.api", description="Run one API process.")
    parser.add_argument("--host", default=settings.api_host, help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=settings.api_port, help="0: any free port (default: %(default)s)")
    given = parser.parse_args()
    settings = settings.model_copy(update={"api_host": given.host, "api_port": given.port})
    logging.configure(settings, "api")
    try:
        run(settings)
    except Misconfigured as error:
        logging.get("api").error("can't go on", error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
