"""`python -m coordinator.dispatcher`."""

import sys

from coordinator.dispatcher.main import run_dispatcher

sys.exit(run_dispatcher())
