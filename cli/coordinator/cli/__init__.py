"""The `coordinator` command: it runs the processes of a deployment, and shows what goes on in one.

`commands/` has one file per command. Those for operators (`workers`, `models`, `dead`, `submit`, `result`, `cancel`) talk
HTTP to the coordinator that `--coordinator` names, and need nothing else; `audit` and `doctor` go straight to Redis. `up`
and `demo` stand on `system.py`, which knows what a whole coordinator on one machine consists of, and `supervisor.py`,
which keeps its processes going and stops them in order.

People get tables; `--json` gives programs one JSON document on stdout. What goes wrong is one line on stderr, with exit
code 2 for a request that can't be right, and 1 for one that failed.
"""
