"""The steps: one typed function per Lua script, and nothing else that changes a job's state.

Every step is atomic, and safe to send again after a lost reply: it is idempotent by request id or by stream entry id.
All raise `RedisUnavailable` when Redis stays away, and `Misconfigured` when it refuses us for good.
"""

from coordinator.core.steps.jobs import (
    Assigned,
    Cancelled,
    Completion,
    Failure,
    Found,
    Rebalanced,
    Receipt,
    Submission,
    assign,
    cancel,
    complete,
    fail,
    held,
    read,
    rebalance,
    submit,
)
from coordinator.core.steps.members import (
    Overdue,
    Reclaimed,
    drain,
    forget,
    heartbeat,
    overdue,
    reclaim,
    register,
)
from coordinator.core.steps.upkeep import (
    Expired,
    Promoted,
    expire,
    promote,
    prune_dead,
    remove_dead,
    retry_dead,
    rouse,
)

__all__ = [
    "Assigned",
    "Cancelled",
    "Completion",
    "Expired",
    "Failure",
    "Found",
    "Overdue",
    "Promoted",
    "Rebalanced",
    "Receipt",
    "Reclaimed",
    "Submission",
    "assign",
    "cancel",
    "complete",
    "drain",
    "expire",
    "fail",
    "forget",
    "heartbeat",
    "held",
    "overdue",
    "promote",
    "prune_dead",
    "read",
    "rebalance",
    "reclaim",
    "register",
    "remove_dead",
    "retry_dead",
    "rouse",
    "submit",
]
