"""The dispatcher: assigns waiting jobs to live workers, and looks after everything that goes off the happy path.

Any number of dispatcher processes may run at once. None of them holds any state that matters: whatever one does is one
atomic step in Redis, so it may be killed at any moment, and another one goes on.

The duties, one file each:

- `assigner` deals waiting jobs to workers with room, woken by work and by room; `fleet` tells which of many to ask;
- `reclaimer` takes back what lost workers hold, and what live ones have held for too long;
- `rebalancer` moves unread work from busy workers to idle ones;
- `promoter` moves retries and scheduled jobs to their lanes when they fall due;
- `expirer` ends jobs whose deadline passed before they were started;
- `janitor` removes what has outlived its retention, and guards the memory limit;
- `auditor` looks all the time whether every job is where it must be, and says so if not.
"""
