"""`python -m coordinator.cli` is `coordinator`."""

import sys

from coordinator.cli.main import main

sys.exit(main())
